"""Figures of maps, against their definitions read pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_quality.metrics.figures import ChangeFigures, MapFigures
from sam_refine_quality.metrics.statistics import ChangeSums, MapSums, confusion_matrix
from sam_refine_quality.metrics.truth import Truth
from support import quality

CLASSES, VOID = 4, 255
SIZES = [(20, 31), (18, 12), (1, 17)]


def blocks(size_hw, seed, high=CLASSES - 1):
    """Labels below `high` in blocks of 5."""
    height, width = size_hw
    small = np.random.default_rng(seed).integers(0, high, (height // 5 + 1, width // 5 + 1))
    return np.kron(small, np.ones((5, 5), np.int64))[:height, :width].astype(np.int32)


def damaged(labels, seed, low=0):
    """A quarter of the pixels have another label; some one that is no class."""
    random = np.random.default_rng(seed)
    other = random.integers(low, CLASSES + 1, labels.shape)
    return np.where(random.random(labels.shape) < 0.25, other, labels)


def truths():
    """The last class is not among them; some pixels, and one whole image, are void."""
    made = [blocks(size_hw, seed) for seed, size_hw in enumerate(SIZES)]
    made[0][3:9, 10:] = VOID
    return [*made, np.full((4, 4), VOID, np.int32)]


def maps(seed):
    return [damaged(truth, seed + index) for index, truth in enumerate(truths())]


def sums_of(labels):
    read = [Truth.of(truth, CLASSES, VOID) for truth in truths()]
    return [MapSums.of(truth, each) for truth, each in zip(read, labels, strict=True)]


def equal(figure, expected):
    return np.isnan(figure) if expected is None else figure == pytest.approx(expected)


@pytest.mark.parametrize("chosen", [[0], [1], [2], [0, 1, 2, 3]])
def test_figures_are_those_of_the_definitions(chosen):
    labels = maps(10)
    sums = [sums_of(labels)[index] for index in chosen]
    figures = MapFigures.of(MapSums.stacked(sums).added())
    wanted = [truths()[index] for index in chosen]
    got = [labels[index] for index in chosen]

    by_class, miou = quality.miou_by_class(wanted, got, CLASSES, VOID)
    assert by_class[-1] is None
    for iou, expected in zip(figures.iou_by_class, by_class, strict=True):
        assert equal(iou, expected)
    assert equal(figures.miou, miou)
    assert equal(figures.accuracy, quality.accuracy(wanted, got, VOID))
    near = quality.accuracy(wanted, got, VOID, quality.is_near_border)
    assert equal(figures.border_accuracy, near)
    assert equal(figures.boundary_iou, quality.boundary_iou(wanted, got, CLASSES, VOID))
    assert 0 < figures.boundary_iou < figures.accuracy < 100


def test_figures_of_the_truth_itself_are_100():
    figures = MapFigures.of(MapSums.stacked(sums_of(truths())).added())
    assert (figures.miou, figures.accuracy, figures.border_accuracy, figures.boundary_iou) == (
        100, 100, 100, 100,
    )  # fmt: skip


def test_figures_of_an_image_that_is_void_are_nan():
    figures = MapFigures.of(sums_of(truths())[-1])
    assert np.isnan([figures.miou, figures.accuracy, figures.border_accuracy]).all()


def test_border_accuracy_of_a_truth_of_one_label_is_nan():
    truth = Truth.of(np.zeros((9, 9), np.int32), CLASSES)
    assert np.isnan(MapFigures.of(MapSums.of(truth, truth.labels)).border_accuracy)


def test_figures_have_the_axes_of_the_sums():
    stacked = MapSums.stacked(sums_of(maps(10))[:3])
    of_each = MapFigures.of(stacked)
    assert of_each.miou.shape == (3,)
    assert of_each.iou_by_class.shape == (3, CLASSES)
    times = np.array([[1.0, 1, 1], [0, 2, 0]])
    of_some = MapFigures.of(stacked.added(times))
    assert of_some.miou[0] == pytest.approx(MapFigures.of(stacked.added()).miou)
    assert of_some.miou[1] == pytest.approx(of_each.miou[1])


def test_confusion_matrix_counts_pixels_that_are_not_void():
    truth, labels = truths()[0], maps(10)[0]
    matrix = confusion_matrix(Truth.of(truth, CLASSES, VOID), labels)
    expected = np.zeros((CLASSES, CLASSES + 1), np.int64)
    for at in quality.pixels(truth):
        if truth[at] != VOID:
            expected[truth[at], min(labels[at], CLASSES)] += 1
    np.testing.assert_array_equal(matrix, expected)
    assert matrix[:, -1].sum() > 0


@pytest.mark.parametrize("label", [-1, CLASSES, 255])
def test_label_of_a_map_that_is_no_class_is_wrong_wherever_it_is(label):
    truth = Truth.of(np.zeros((6, 6), np.int32), CLASSES)
    figures = MapFigures.of(MapSums.of(truth, np.full((6, 6), label)))
    assert (figures.miou, figures.accuracy, figures.boundary_iou) == (0, 0, 0)


def test_changes_are_those_of_the_definition():
    coarse, refined = maps(10), maps(20)
    read = [Truth.of(truth, CLASSES, VOID) for truth in truths()]
    sums = [ChangeSums.of(*each) for each in zip(read, coarse, refined, strict=True)]
    figures = ChangeFigures.of(ChangeSums.stacked(sums).added())
    expected = quality.changes(truths(), coarse, refined, VOID)
    found = (figures.fraction, figures.made_right, figures.made_wrong)
    assert found == pytest.approx(expected)
    assert 0 < figures.made_right < 100


def test_changes_of_a_map_that_stayed_have_no_share():
    truth = Truth.of(truths()[0], CLASSES, VOID)
    figures = ChangeFigures.of(ChangeSums.of(truth, maps(10)[0], maps(10)[0]))
    assert figures.fraction == 0
    assert np.isnan([figures.made_right, figures.made_wrong]).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((2, 3), 4), r"a.png must have labels in \[0, 4\) or 255, which is void, got 4"),
        (np.full((2, 3), -1), r"a.png must have labels in \[0, 4\) or 255, which is void, got -1"),
        (np.zeros((2, 3, 1), np.int32), r"a.png must have shape \(H, W\).*got \(2, 3, 1\) int32"),
        (np.zeros((2, 3)), "and integers, got .* float64"),
        (np.zeros((0, 3), np.int32), "H and W at least 1"),
    ],
)
def test_truth_that_is_none_is_refused_by_its_name(labels, message):
    with pytest.raises(InvalidRequestError, match=message):
        Truth.of(labels, CLASSES, VOID, "a.png")


def test_map_of_another_size_is_refused():
    truth = Truth.of(truths()[0], CLASSES, VOID)
    with pytest.raises(InvalidRequestError, match=r"coarse must be \(20, 31\) like the truth, got"):
        MapSums.of(truth, truths()[1], "coarse")
