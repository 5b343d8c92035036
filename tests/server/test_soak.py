"""Callers of mixed sizes and tempers beside somebody who kills and stops: `make soak` in short."""

import re

import pytest

from sam_refine_benchmarks.soak.soak import soak

pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("export, under load")]

SECONDS, KILL_EVERY_S = 15, 5
DEADLINE_S = 120
"""Far more than healing takes, on a machine that may be busy."""


def test_soak_has_no_wrong_answer_and_loses_none(repository):
    said = []
    outcome = soak(repository, SECONDS, KILL_EVERY_S, 0, said.append, DEADLINE_S)
    assert outcome.counts["right"] > 0
    assert (outcome.counts["wrong"], outcome.counts["lost"]) == (0, 0), outcome.reasons
    assert outcome.is_right
    assert sum(outcome.done.values()) >= 2
    assert said[-1] == "memory and open files: too short a run for a verdict"
    assert {kind for sample in outcome.samples for kind in sample.taken} == {
        "supervisor", "tritonserver", "/dev/shm",
        "sam_refine", "sam_preprocess", "sam_image_encoder", "sam_mask_decoder",
    }  # fmt: skip
    for line, when in zip(said, ("start", "middle", "end"), strict=False):
        assert re.match(rf"{when} +\d+ processes, \d+ MiB, \d+ open files, \d+ MiB in", line)
