"""Numbers that are hidden from a judge, one kind after the other."""

from __future__ import annotations

import numpy as np
import pytest

from sam_refine.contract import CHANGE_FEATURES, MASK_FEATURES, RefineOptions
from sam_refine_benchmarks.quality.ablation import KINDS, gained
from sam_refine_client.reading.notes import Notes
from sam_refine_quality.reading import ReadSample
from sam_refine_quality.tuning.learn import learn
from sam_refine_quality.tuning.tune import record
from support.labelled.scenes import VOID, SceneSam, samples


@pytest.fixture(scope="module")
def recordings():
    options = RefineOptions.of_preset("judged")
    return [
        record(SceneSam(), ReadSample.of(sample, Notes(), classes=None, void=VOID), options)
        for sample in samples(8)
    ]


def test_each_number_is_of_one_kind():
    names = [name for names in KINDS.values() for name in names]
    assert len(names) == len(set(names))
    assert set(names) == {*MASK_FEATURES, *CHANGE_FEATURES}


@pytest.mark.slow  # trees grow for seconds
def test_judge_does_not_look_at_what_was_hidden_from_it(recordings):
    hidden = ("score_old", "predicted_iou")
    judge = learn(recordings, range(8), hidden)
    random = np.random.default_rng(0)
    for names, gains in ((MASK_FEATURES, judge.mask_gains), (CHANGE_FEATURES, judge.change_gains)):
        features = random.random((50, len(names))).astype(np.float32)
        others = features.copy()
        others[:, [names.index(name) for name in hidden if name in names]] = 9
        np.testing.assert_array_equal(gains(features), gains(others))
        others[:, [i for i, name in enumerate(names) if name not in hidden]] = 0.5
        assert (gains(features) != gains(others)).any()


@pytest.mark.slow  # trees grow for seconds
def test_judge_from_which_all_is_hidden_gains_less(recordings):
    assert gained(recordings, ()) > gained(recordings, (*MASK_FEATURES, *CHANGE_FEATURES)) + 1
