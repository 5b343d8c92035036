"""Which packages each part may need: proved by importing with the others blocked."""

import subprocess
import sys

import pytest

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
sys.meta_path.insert(0, Block())
import {module}
"""
HEAVY = {"torch", "onnx", "onnxruntime", "onnxscript", "segment_anything", "pytriton"}
COCO = {"pycocotools", "shapely"}
QUALITY = {"scipy", "jinja2"}
BULK = {"pyarrow", "ray", "prometheus_client"}
EXPORT = {"platformdirs", "pydantic", "requests", "tenacity"}


def import_blocked(module, blocked):
    code = BLOCK.format(module=module, blocked=blocked)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "blocked"),
    [
        ("sam_refine.contract", HEAVY | {"cc3d", "PIL", "tritonclient", "psutil", "typer"}),
        ("sam_refine.algorithm.pipeline", HEAVY | {"tritonclient", "typer"}),
        ("sam_refine.service.request", HEAVY | {"tritonclient", "typer"}),
        ("sam_refine_client", HEAVY | COCO | QUALITY | {"cc3d", "psutil", "typer", "rich"}),
        (
            "sam_refine_deploy.supervisor.supervise",
            HEAVY | {"cc3d", "tritonclient", "typer", "rich"},
        ),
        ("sam_refine_export", HEAVY | EXPORT | {"cc3d", "tritonclient", "typer", "rich"}),
        ("sam_refine_ui", HEAVY | EXPORT | {"cc3d", "gradio", "typer", "rich"}),
        ("sam_refine_ui.page", HEAVY | {"cc3d", "psutil", "sam_refine_cli"}),
        ("sam_refine_quality", HEAVY | EXPORT | COCO | {"cc3d", "jinja2", "typer", "rich"}),
        ("sam_refine_bulk", HEAVY | EXPORT | COCO | QUALITY | BULK | {"cc3d", "typer", "rich"}),
        (
            "sam_refine_cli.app; sam_refine_cli.app.make_app()",
            HEAVY | EXPORT | QUALITY | BULK | {"cc3d", "tritonclient"},
        ),
    ],
)
def test_import_needs_no_more_than_its_extra(module, blocked):
    result = import_blocked(module, blocked)
    assert result.returncode == 0, result.stderr


def test_import_of_a_blocked_package_fails_in_this_way():
    result = import_blocked("sam_refine.algorithm.regions", {"cc3d"})
    assert "cc3d is blocked" in result.stderr
