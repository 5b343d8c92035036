"""`make gpu-check` where there is nothing to check."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from sam_refine_benchmarks.gpu.__main__ import app


@pytest.mark.parametrize("arguments", [[], ["--precision", "fp16"]])
def test_machine_without_a_gpu_is_told_at_once(monkeypatch, arguments):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    done = CliRunner().invoke(app, ["check", *arguments])
    assert done.exit_code == 1
    assert done.output == "no NVIDIA GPU is seen here, and the check is of one\n"
