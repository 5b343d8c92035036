"""In fresh interpreters, since an import happens once."""

import subprocess
import sys

import pytest

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""
BUILD = """from sam_refine_export.networks.sam_networks import new_mask_decoder
print(type(new_mask_decoder()))"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.slow
def test_networks_without_torchvision_are_segment_anythings_own():
    result = run(BLOCK.format(blocked={"torchvision"}) + BUILD)
    assert result.stdout == "<class 'segment_anything.modeling.mask_decoder.MaskDecoder'>\n"


@pytest.mark.slow
def test_networks_with_torchvision_leave_the_package_as_it_is():
    torchvision = (
        "import sys, types\n"
        "for name in ('', '.transforms', '.transforms.functional', '.ops', '.ops.boxes'):\n"
        "    sys.modules['torchvision' + name] = types.ModuleType('torchvision' + name)\n"
        "functional = sys.modules['torchvision.transforms.functional']\n"
        "functional.resize = functional.to_pil_image = None\n"
        "boxes = sys.modules['torchvision.ops.boxes']\n"
        "boxes.batched_nms = boxes.box_area = None\n"
    )
    result = run(f"{torchvision}{BUILD}\nfrom segment_anything import SamPredictor")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("missing", ["segment_anything", "torch"])
def test_networks_without_a_package_say_what_to_install(missing):
    result = run(BLOCK.format(blocked={missing}) + "import sam_refine_export.networks.sam_modules")
    assert f"the export needs {missing}: pip install 'sam-refine[export]'" in result.stderr
