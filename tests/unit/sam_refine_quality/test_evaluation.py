"""`evaluate`: what it asks for, what it counts, and what it makes of errors."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_client import DeadlineError, RefineClient, UnreachableError
from sam_refine_client.transport.local_networks import Networks
from sam_refine_quality import Sample, evaluate
from sam_refine_quality.metrics.bootstrap import resample
from support import quality
from support.cases import coarse_scores, photo
from support.quality import ScriptedClient, sample

CLASSES, VOID = 3, 255
HALF, QUARTER = RefineOptions(min_region_area=2), RefineOptions(min_region_area=4)


def moved(labels, options):
    """Every `min_region_area`th row is another class."""
    changed = labels.copy()
    changed[:: options.min_region_area] = (changed[:: options.min_region_area] + 1) % CLASSES
    return changed


def data():
    """Truth and coarse maps of four images."""
    random = np.random.default_rng(5)
    pairs = []
    for size_hw in ((8, 9), (6, 11), (9, 7), (8, 8)):
        truth = np.sort(random.integers(0, CLASSES, size_hw), axis=1).astype(np.int32)
        coarse = np.where(random.random(size_hw) < 0.3, random.integers(0, CLASSES, size_hw), truth)
        truth[0, :3] = VOID
        pairs.append((truth, coarse))
    return pairs


def samples(pairs=None):
    return [
        sample(f"{index}.png", truth, coarse, CLASSES)
        for index, (truth, coarse) in enumerate(data() if pairs is None else pairs)
    ]


@pytest.fixture
def client():
    return ScriptedClient(moved)


# --- Figures ---------------------------------------------------------------------------------


def figures_of(truths, maps):
    by_class, miou = quality.miou_by_class(truths, maps, CLASSES, VOID)
    return {
        "miou": miou,
        "accuracy": quality.accuracy(truths, maps, VOID),
        "border_accuracy": quality.accuracy(truths, maps, VOID, quality.is_near_border),
        "boundary_iou": quality.boundary_iou(truths, maps, CLASSES, VOID),
        "iou_by_class": dict(zip("012", by_class, strict=True)),
    }


def differences(refined, coarse):
    return {
        name: differences(value, coarse[name]) if name == "iou_by_class" else value - coarse[name]
        for name, value in refined.items()
    }


def close(figures):
    """To four decimals, as JSON has them."""
    return {
        name: close(value) if isinstance(value, dict) else pytest.approx(value, abs=1e-4)
        for name, value in figures.items()
    }


def test_figures_of_each_set_are_those_of_the_definitions(client):
    sets = {"half": HALF, "quarter": QUARTER}
    found = evaluate(client, samples(), sets, ignore_label=VOID).to_json()
    assert list(found["option_sets"]) == ["half", "quarter"]
    truths, coarse_maps = zip(*data(), strict=True)
    coarse = figures_of(truths, coarse_maps)
    for name, options in (("half", HALF), ("quarter", QUARTER)):
        refined_maps = [moved(labels, options) for labels in coarse_maps]
        refined, of_set = figures_of(truths, refined_maps), found["option_sets"][name]
        assert of_set["coarse"] == close(coarse)
        assert of_set["refined"] == close(refined)
        assert of_set["difference"] == close(differences(refined, coarse))
        changed = quality.changes(truths, coarse_maps, refined_maps, VOID)
        assert list(of_set["changed"]) == ["fraction", "made_right", "made_wrong"]
        assert list(of_set["changed"].values()) == pytest.approx(changed, abs=1e-4)
        assert of_set["regions"] == {"kept": 8, "failed": 4}
    assert found["images"] == 4
    assert found["valid_pixels"] == sum(int((truth != VOID).sum()) for truth in truths)


def test_intervals_are_percentiles_of_data_sets_that_are_drawn(client):
    found = evaluate(
        client, samples(), {"half": HALF}, ignore_label=VOID, resamples=15, seed=2
    ).to_json()
    values = []
    for times in resample(4, 15, 2).astype(int).tolist():
        drawn = [pair for pair, count in zip(data(), times, strict=True) for _ in range(count)]
        truths, coarse_maps = zip(*drawn, strict=True)
        refined_maps = [moved(labels, HALF) for labels in coarse_maps]
        coarse, refined = figures_of(truths, coarse_maps), figures_of(truths, refined_maps)
        values.append({"coarse": coarse, "refined": refined,
                       "difference": differences(refined, coarse)})  # fmt: skip
    intervals = found["option_sets"]["half"]["intervals"]
    for kind in ("coarse", "refined", "difference"):
        for name in ("miou", "accuracy", "border_accuracy", "boundary_iou"):
            expected = np.quantile([value[kind][name] for value in values], (0.025, 0.975))
            assert intervals[kind][name] == pytest.approx(expected.tolist(), abs=1e-4)
        of_class = np.quantile([each[kind]["iou_by_class"]["1"] for each in values], (0.025, 0.975))
        assert intervals[kind]["iou_by_class"]["1"] == pytest.approx(of_class.tolist(), abs=1e-4)
    assert intervals["refined"]["miou"][0] < intervals["refined"]["miou"][1]


def test_one_image_has_no_intervals_and_classes_without_truth_no_figure(client):
    truth = np.zeros((8, 8), np.int32)
    found = evaluate(client, samples([(truth, truth)]), {"half": HALF}).to_json()
    of_set = found["option_sets"]["half"]
    assert of_set["intervals"] is None
    assert of_set["refined"]["iou_by_class"] == {"0": 50.0, "1": None, "2": None}
    assert of_set["refined"]["border_accuracy"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_was_evaluated_is_named(client):
    found = evaluate(
        client, samples(), {"half": HALF}, ignore_label=VOID, class_names=["a", "b", "c", "d"]
    ).to_json()
    assert found["classes"] == ["a", "b", "c"]
    assert set(found["option_sets"]["half"]["coarse"]["iou_by_class"]) == {"a", "b", "c"}
    assert found["options"] == {"half": HALF.to_parameters()}
    assert [image["image"] for image in found["by_image"]] == [f"{each}.png" for each in range(4)]
    assert found["bootstrap"] == {"confidence": 0.95, "resamples": 1000, "seed": 0}
    truth, coarse = data()[1]
    of_image = found["by_image"][1]["option_sets"]["half"]
    assert of_image["coarse_accuracy"] == pytest.approx(
        quality.accuracy([truth], [coarse], VOID), abs=1e-4
    )


def test_confusion_matrices_add_up_to_the_valid_pixels(client):
    found = evaluate(client, samples(), {"half": HALF}, ignore_label=VOID)
    of_set = found.option_sets["half"]
    valid = sum(image.valid_pixels for image in found.images)
    for matrix, figures in (
        (of_set.confusion_coarse, of_set.figures.coarse),
        (of_set.confusion_refined, of_set.figures.refined),
    ):
        assert matrix.sum() == valid
        assert 100 * np.trace(matrix) / valid == pytest.approx(float(figures.accuracy))


# --- Calls -----------------------------------------------------------------------------------


def test_each_image_is_embedded_once_and_refined_once_for_each_different_set(client):
    sets = {"a": HALF, "b": QUARTER, "c": replace(HALF)}
    found = evaluate(client, samples(), sets, ignore_label=VOID)
    assert client.asked == {"embed": 4, "refine": 8}
    assert not client.is_same_image
    a, b, c = (found.to_json()["option_sets"][name] for name in "abc")
    assert a == c
    assert a != b


def test_sets_are_asked_from_the_lowest_threshold_up_and_reported_as_given(client):
    thresholds = {"high": 0.9, "low": 0.1, "middle": 0.5}
    sets = {
        name: RefineOptions(iou_threshold=value, min_region_area=2)
        for name, value in thresholds.items()
    }
    found = evaluate(client, samples()[:1], sets, ignore_label=VOID)
    assert [options.iou_threshold for options in client.options] == [0.1, 0.5, 0.9]
    assert list(found.option_sets) == list(thresholds)


def test_local_mode_decodes_an_image_once_for_sets_that_ask_the_same(repository, monkeypatch):
    calls = []
    decode = Networks.decode

    def counting(*arguments):
        calls.append(arguments)
        return decode(*arguments)

    monkeypatch.setattr(Networks, "decode", counting)
    truth = np.zeros((120, 180), np.int32)
    images = [
        Sample("a", photo(120, 180), coarse_scores(), truth),
        Sample("b", photo(120, 180)[::-1].copy(), coarse_scores(), truth),
    ]
    sets = {
        "default": RefineOptions(),
        "scores": RefineOptions(failed_regions="scores_only"),
        "lenient": RefineOptions(iou_threshold=0.5),
    }
    with RefineClient.local(repository) as local:
        found = evaluate(local, images, sets)
        assert len(calls) == 2
        for options in sets.values():
            local.refine(photo(120, 180), logits=coarse_scores(), options=options)
    assert len(calls) == 5
    kept = {name: each.regions_kept for name, each in found.option_sets.items()}
    assert kept["default"] == kept["scores"] < kept["lenient"]


# --- Errors ----------------------------------------------------------------------------------


def test_image_that_fails_is_named_and_the_others_count(client):
    client.errors = [None, DeadlineError("too late")]
    good = samples()
    broken = [
        good[0],
        replace(good[1], name="late"),
        replace(good[1], name="small", truth=good[1].truth[1:]),
        replace(good[1], name="wrong", truth=np.full((6, 11), 7)),
        replace(good[1], name="other", logits=np.zeros((4, 6, 11), np.float32)),
        replace(good[1], name="flat", logits=np.zeros((6, 11), np.float32)),
        replace(good[1], name="missing", image="none.png"),
        good[2],
    ]
    seen = []
    found = evaluate(client, broken, {"half": HALF}, ignore_label=VOID, watch=seen.append)
    assert [image.name for image in found.images] == ["0.png", "2.png"]
    assert [outcome.name for outcome in seen] == [each.name for each in broken]
    for name, message in {
        "late": "too late",
        "small": "truth of 1.png must be (6, 11) like its image, got (5, 11)",
        "wrong": "truth of 1.png must have labels in [0, 3) or 255, which is void, got 7",
        "other": "logits must have 3 classes like the images before, got 4",
        "flat": "logits must have 3 classes like the images before, got 2",
        "missing": "none.png",
    }.items():
        assert message in found.failed[name]
    assert len(found.failed) == 6
    alone = evaluate(ScriptedClient(moved), [good[0], good[2]], {"half": HALF}, ignore_label=VOID)
    assert (
        found.to_json()["option_sets"]["half"]["refined"]
        == (alone.to_json()["option_sets"]["half"]["refined"])
    )


def test_error_that_all_would_have_ends_it(client):
    client.errors = [None, UnreachableError("gone")]
    seen = []
    with pytest.raises(UnreachableError, match="gone"):
        evaluate(client, samples(), {"half": HALF}, ignore_label=VOID, watch=seen.append)
    assert [type(outcome.error) for outcome in seen] == [type(None), UnreachableError]
    assert client.asked["embed"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": []}, "no image could be evaluated: there is none"),
        ({"ignore_label": 254}, "no image could be evaluated: 0.png: truth of 0.png must have"),
        ({"option_sets": {}}, "at least one set, got none"),
        ({"option_sets": {" ": HALF}}, "option_sets must have names that are not empty, got ' '"),
        ({"option_sets": {"a": {}}}, "option set 'a' must be RefineOptions, got dict"),
        ({"class_names": ["a", "b"]}, "a name for each of 3 classes, got 2"),
        ({"class_names": ["a", "b", "a"]}, "must be different, got 'a' twice"),
        ({"class_names": "abc"}, "must be several texts, got 'abc'"),
    ],
)
def test_what_breaks_a_rule_is_refused(client, arguments, message):
    call = {"samples": samples(), "option_sets": {"half": HALF}, "ignore_label": VOID} | arguments
    with pytest.raises(InvalidRequestError) as caught:
        evaluate(client, **call)
    assert message in str(caught.value)


def test_truth_that_is_all_void_is_refused_but_one_void_image_is_not(client):
    void = np.full((8, 8), VOID)
    nothing = samples([(void, np.zeros((8, 8), np.int32))])
    with pytest.raises(InvalidRequestError, match=r"not void, which is 255: .* first is 0\.png"):
        evaluate(client, nothing, {"half": HALF}, ignore_label=VOID)
    found = evaluate(client, [*nothing, *samples()[1:]], {"half": HALF}, ignore_label=VOID)
    assert found.to_json()["by_image"][0]["option_sets"]["half"]["coarse_accuracy"] is None
    assert found.to_json()["option_sets"]["half"]["coarse"]["miou"] > 0
