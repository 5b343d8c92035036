"""The supervisor's metrics, and the page that explains them."""

import re
import time
from pathlib import Path

from sam_refine_deploy.supervisor.status import Status

PAGE = (Path(__file__).parents[3] / "docs/metrics.md").read_text(encoding="utf-8")


def value(status, name):
    return status.registry.get_sample_value(name)


def test_page_has_every_metric_and_its_labels():
    section = PAGE.partition("## What was healed")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", section, re.MULTILINE)
    found = {name: (kind, tuple(re.findall(r"`(\w+)`", label))) for name, kind, label in rows}
    status = Status()
    labels = {"model_reloads": ("model", "cause"), "processes_continued": ("model",),
              "server_restarts": ("cause",)}  # fmt: skip
    expected = {}
    for family in status.registry.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        expected[name] = family.type, labels.get(family.name.removeprefix("sam_refine_"), ())
    assert {name: kind for name, (kind, _) in found.items()} == {
        name: kind for name, (kind, _) in expected.items()
    }
    for name, (_, names) in expected.items():
        assert found[name][1][: len(names)] == names or set(names) <= set(found[name][1])


def test_seconds_without_being_ready_add_up_and_the_others_do_not():
    status = Status()
    assert status.reasons == ("the server starts",)
    time.sleep(0.05)
    status.set()
    unready_s = value(status, "sam_refine_unready_seconds_total")
    assert unready_s >= 0.05
    assert value(status, "sam_refine_ready") == 1
    time.sleep(0.05)
    status.set("a model is loaded anew")
    assert value(status, "sam_refine_unready_seconds_total") == unready_s
    assert value(status, "sam_refine_ready") == 0
    assert status.reasons == ("a model is loaded anew",)
