from __future__ import annotations

import pytest

from sam_refine.contract.serving import gpu

BOTH = [gpu.CUDA, "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("files", "is_here"),
    [
        ([], False),
        (["dev/nvidia0"], True),
        (["dev/nvidia3"], True),
        (["dev/nvidiactl"], False),
        (["dev/dxg"], False),
        (["dev/dxg", "usr/lib/wsl/lib/libcuda.so.1"], True),
    ],
)
def test_gpu_is_seen_by_its_device_file(tmp_path, monkeypatch, files, is_here):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert gpu.has_gpu(tmp_path) is is_here
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not gpu.has_gpu(tmp_path)


def test_what_onnxruntime_prints_of_cuda_is_no_output(capsys):
    class Talkative:
        @staticmethod
        def preload_dlls():
            print("Failed to load libcudnn.so.9")

    gpu.load_cuda_libraries(Talkative)
    gpu.load_cuda_libraries(object())  # a release that cannot
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "Failed to load libcudnn.so.9\n")


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
