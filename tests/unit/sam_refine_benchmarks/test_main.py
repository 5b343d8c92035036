from __future__ import annotations

from typer.testing import CliRunner

from sam_refine_benchmarks import suite
from sam_refine_benchmarks.__main__ import app
from sam_refine_benchmarks.setting import Setting


def test_unknown_benchmark_is_refused_with_the_names_of_all():
    result = CliRunner().invoke(app, ["--only", "sorting"])
    assert result.exit_code == 2
    assert "there is no benchmark sorting" in result.output
    assert all(name in result.output for name in suite.BENCHMARKS)


def test_budget_of_a_quick_setting_is_the_quick_one(tmp_path):
    assert Setting(tmp_path, tmp_path).budget_s(60, 5) == 60
    assert Setting(tmp_path, tmp_path, quick=True).budget_s(60, 5) == 5
