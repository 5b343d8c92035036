import re
from pathlib import Path

import pytest

from sam_refine_export import ExportError
from sam_refine_export.weights.meta import OFFICIAL, require_intact, source_of

OTHER = "0" * 64


@pytest.mark.parametrize("official", OFFICIAL.values(), ids=OFFICIAL)
def test_official_entry_is_whole_and_agrees_with_itself(official):
    assert official.url.startswith("https://")
    assert official.url.endswith(f"/{official.file_name}")
    assert re.fullmatch("[0-9a-f]{64}", official.sha256)
    assert official.size_bytes > 375e6
    assert official.licence == "Apache-2.0"


def test_official_models_are_three_different_files():
    assert list(OFFICIAL) == ["vit_b", "vit_l", "vit_h"]
    for model, official in OFFICIAL.items():
        assert official.file_name.startswith(f"sam_{model}_")
    assert len({official.sha256 for official in OFFICIAL.values()}) == 3


def test_source_of_official_checksum_says_so_under_any_name():
    checksum = OFFICIAL["vit_l"].sha256
    for name in ("sam_vit_l_0b3195.pth", "mine.pth"):
        source = source_of(Path("weights") / name, checksum)
        assert source.name == "sam_vit_l_0b3195.pth (Meta's official checkpoint)"
        assert source.licence == "Apache-2.0"
        assert source.sha256 == {"sam_vit_l_0b3195.pth": checksum}


def test_source_of_other_checksum_is_the_file_alone():
    source = source_of(Path("weights/mine.pth"), OTHER)
    assert (source.name, source.licence, source.sha256) == ("mine.pth", None, {"mine.pth": OTHER})


def test_require_intact_official_name_with_other_checksum_is_refused():
    message = (
        r"^weights/sam_vit_b_01ec64\.pth is named like Meta's checkpoint but has the sha256 0{64}, "
        r"expected ec2df627\w{56}: it is damaged or another file; rename it if that is meant$"
    )
    with pytest.raises(ExportError, match=message):
        require_intact(Path("weights/sam_vit_b_01ec64.pth"), OTHER)


def test_require_intact_official_file_or_other_name_passes():
    require_intact(Path("sam_vit_b_01ec64.pth"), OFFICIAL["vit_b"].sha256)
    require_intact(Path("mine.pth"), OFFICIAL["vit_b"].sha256)
    require_intact(Path("mine.pth"), OTHER)
