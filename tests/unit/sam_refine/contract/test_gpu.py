from __future__ import annotations

import pytest

from sam_refine.contract.serving import gpu

BOTH = [gpu.CUDA, "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("files", "is_here"),
    [
        ([], False),
        (["nvidia0"], True),
        (["nvidia3"], True),
        (["dxg"], True),
        (["nvidiactl"], False),
    ],
)
def test_gpu_is_seen_by_its_device_file(tmp_path, files, is_here):
    for name in files:
        (tmp_path / name).touch()
    assert gpu.has_gpu(tmp_path) is is_here


@pytest.mark.parametrize("used", [BOTH, ["TensorrtExecutionProvider", "CPUExecutionProvider"]])
def test_session_on_the_gpu_is_no_fault(used):
    assert gpu.why_not_on_gpu(used, BOTH, is_here=True) is None


def test_cpu_is_no_fault_where_there_is_no_gpu():
    assert gpu.why_not_on_gpu(["CPUExecutionProvider"], BOTH, is_here=False) is None


@pytest.mark.parametrize(
    ("available", "packages", "reason"),
    [
        (["CPUExecutionProvider"], {"onnxruntime"}, "this onnxruntime has no CUDA"),
        (BOTH, {"onnxruntime-gpu"}, "CUDA did not start"),
        (BOTH, {"onnxruntime", "onnxruntime-gpu"}, "both installed and overwrite each other"),
    ],
)
def test_idle_gpu_has_a_reason_and_a_remedy(monkeypatch, available, packages, reason):
    monkeypatch.setattr(gpu, "_is_installed", lambda package: package in packages)
    why = gpu.why_not_on_gpu(["CPUExecutionProvider"], available, is_here=True)
    assert reason in why
    assert "install" in why
