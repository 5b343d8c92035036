"""A judge that is learned on small scenes, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from sam_refine.algorithm.judging.judge import LearnedJudge
from sam_refine.contract import (
    CHANGE_FEATURES,
    MASK_FEATURES,
    SAM_MASK_JUDGE,
    InvalidRequestError,
    JudgeKind,
    RefineOptions,
)
from sam_refine_quality.tuning.files import write_tuned
from sam_refine_quality.tuning.judge_onnx import judge_graph
from sam_refine_quality.tuning.tune import to_json, tune
from support.labelled.scenes import VOID, SceneSam, samples

pytestmark = pytest.mark.slow  # trees grow for seconds


@pytest.fixture(scope="module")
def tuned():
    return tune(SceneSam(), samples(8), ignore_label=VOID)


def test_judge_of_a_sam_that_is_right_makes_the_maps_better(tuned):
    assert tuned.is_recommended
    assert tuned.doubts == ()
    assert tuned.figures.difference.miou > 5
    assert tuned.intervals.difference.miou[0] > 0
    assert (tuned.figures.difference.iou_by_class > 0).all()
    assert tuned.figures.changed.made_right > 10 * tuned.figures.changed.made_wrong
    assert tuned.options.judge is JudgeKind.LEARNED
    assert tuned.groups == len(tuned.names) == 8


def test_judge_learns_to_leave_the_map_alone_where_sam_is_wrong():
    """Not one mask of this SAM is where the thing is; what it would cost shows that it matters."""
    wrong = tune(SceneSam(shifted=30), samples(8), ignore_label=VOID)
    assert wrong.figures.difference.miou > -1
    assert wrong.figures.changed.fraction < 5


def test_gain_that_may_be_chance_is_not_recommended():
    """Four scenes whose coarse map is right already: there is nothing to gain."""
    right = []
    for sample in samples(4):
        known = np.where(sample.truth == VOID, 0, sample.truth)
        sharp = (np.arange(3)[:, None, None] == known).astype(np.float32)
        right.append(replace(sample, logits=sharp))
    found = tune(SceneSam(shifted=30), right, ignore_label=VOID)
    assert not found.is_recommended
    assert any("may be chance" in doubt for doubt in found.doubts)


def test_class_without_truth_is_a_doubt():
    """Discs are void here, and coarse maps have them all the same."""
    blind = [
        replace(sample, truth=np.where(sample.truth == 2, VOID, sample.truth))
        for sample in samples(4)
    ]
    found = tune(SceneSam(), blind, ignore_label=VOID, class_names=["ground", "box", "disc"])
    assert any("class disc" in doubt and "nowhere in the truth" in doubt for doubt in found.doubts)


def test_groups_are_kept_together():
    videos = ["a"] * 4 + ["b"] * 4
    found = tune(SceneSam(), samples(8), groups=videos, ignore_label=VOID)
    assert found.groups == 2
    assert to_json(found)["folds"] == 2
    assert found.figures.difference.miou > 0


@pytest.mark.parametrize(
    ("count", "arguments", "message"),
    [
        (1, {}, "at least 2 images are needed, got 1"),
        (0, {}, "at least 2 images are needed, got 0"),
        (3, {"groups": ["a"] * 3}, "at least 2 groups of images are needed, got 1"),
        (3, {"groups": ["a", "b"]}, "groups must have one for each of 3 images, got 2"),
    ],
)
def test_too_little_to_learn_from_is_refused(count, arguments, message):
    with pytest.raises(InvalidRequestError, match=message):
        tune(SceneSam(), samples(count), ignore_label=VOID, **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": np.zeros((3, 4), np.uint8), "truth_name": "t.png"}, r"t.png must be \(64, 96"),
        ({"labels": np.zeros((3, 4), np.uint8)}, r"labels must have the image.s size, 64 x 96"),
        (
            {"logits": np.ones((4, 8, 12), np.float32) / 4},
            "logits must have 3 classes like the images",
        ),
        ({"truth": np.full((64, 96), 7, np.uint8), "truth_name": "t.png"}, r"t.png must have lab"),
    ],
)
def test_image_that_breaks_a_rule_is_named(change, message):
    given = samples(2)
    given[1] = replace(given[1], **change)
    with pytest.raises(InvalidRequestError, match=f"got 1; 1 failed, {given[1].name}: {message}"):
        tune(SceneSam(), given, ignore_label=VOID)


def test_judge_learns_of_the_images_that_do_not_fail():
    given = samples(4)
    wrong = replace(given[1], truth=np.zeros((3, 4), np.uint8), truth_name="t.png")
    told = []
    found = tune(
        SceneSam(),
        [given[0], wrong, *given[2:]],
        groups=["a", "b", "c", "c"],
        ignore_label=VOID,
        fail=lambda name, error: told.append((name, str(error))),
    )
    without = tune(SceneSam(), [given[0], *given[2:]], groups=["a", "c", "c"], ignore_label=VOID)
    assert (
        found.failed
        == dict(told)
        == {wrong.name: "t.png must be (64, 96) like its image, got (3, 4)"}
    )
    assert (found.names, found.groups) == (without.names, 2)
    assert to_json(found)["failed"] == found.failed
    assert found.figures.difference.miou == without.figures.difference.miou


def test_truth_that_is_all_void_is_refused():
    void = [replace(each, truth=np.full_like(each.truth, VOID)) for each in samples(2)]
    with pytest.raises(InvalidRequestError, match="must have pixels that are not void"):
        tune(SceneSam(), void, ignore_label=VOID)


# --- The graph and the files -----------------------------------------------------------------


def test_graph_is_the_contract_s_and_foretells_what_the_trees_foretell(tuned):
    graph = judge_graph(tuned.judge)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert [each.name for each in session.get_inputs()] == list(SAM_MASK_JUDGE.input_names)

    def infer(*features):
        inputs = dict(zip(SAM_MASK_JUDGE.input_names, features, strict=True))
        return tuple(session.run(list(SAM_MASK_JUDGE.output_names), inputs))

    judge = LearnedJudge(infer)
    random = np.random.default_rng(0)
    for count in (0, 1, 500):
        masks = random.normal(size=(count, len(MASK_FEATURES))).astype(np.float32)
        changes = random.normal(size=(count, len(CHANGE_FEATURES))).astype(np.float32)
        masks[random.random(masks.shape) < 0.2] = np.nan
        changes[random.random(changes.shape) < 0.2] = np.nan
        for found, expected in (
            (judge.mask_gains(masks), tuned.judge.mask_gains(masks)),
            (judge.change_gains(changes), tuned.judge.change_gains(changes)),
        ):
            assert found.shape == expected.shape == (count,)
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_files_are_the_judge_a_preset_and_a_card(tuned, tmp_path):
    paths = write_tuned(tuned, tmp_path / "new")
    assert [path.name for path in paths] == ["judge.onnx", "preset.json", "card.json"]
    preset, card = (json.loads(path.read_text(encoding="utf-8")) for path in paths[1:])
    assert RefineOptions.from_parameters(preset["options"]) == tuned.options
    assert preset["recommended"] is card["recommended"] is True
    assert len({preset["judge_sha256"], card["judge_sha256"]}) == 1
    assert [each["image"] for each in card["data"]] == [f"scene {i}" for i in range(8)]
    assert len({each["scores_and_truth_sha256"] for each in card["data"]}) == 8
    found = card["cross_validated"]
    assert found["refined"]["miou"] - found["coarse"]["miou"] == pytest.approx(
        found["difference"]["miou"], abs=1e-3
    )
    low, high = found["intervals"]["difference"]["miou"]
    assert low < found["difference"]["miou"] < high


def test_the_same_data_make_the_same_judge(tuned):
    again = tune(SceneSam(), samples(8), ignore_label=VOID)
    assert judge_graph(again.judge).SerializeToString() == (
        judge_graph(tuned.judge).SerializeToString()
    )
