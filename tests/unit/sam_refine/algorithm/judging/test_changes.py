import numpy as np
import pytest

from sam_refine.algorithm.judging import changes as changes_module
from sam_refine.algorithm.judging.changes import Changes, ProposedMap
from sam_refine.algorithm.judging.judge import RuleJudge
from sam_refine.algorithm.judging.mask_grid import MaskGrid
from sam_refine.algorithm.judging.proposals import Proposal
from sam_refine.algorithm.postprocess import MaskPostprocessor
from sam_refine.algorithm.regions import split_regions
from sam_refine.algorithm.scores import ClassScores, GridScores
from sam_refine.contract import CHANGE_FEATURES, MASK_FEATURES, RefineOptions
from sam_refine.numerics import arrays
from sam_refine.numerics.arrays import Window, full_window
from sam_refine.numerics.resize import LinearAxis
from support.drawings import columns_drawn_in

OPTIONS = RefineOptions(downsample_ratio=1)


def proposal(region, class_id, mask, *, gain=0.5, window=None):
    """A mask (H, W) bool, in the whole image or a window of it; three of four have each pixel."""
    drawn = np.where(mask, 6, -6).astype(np.float32)
    others = np.ones_like(drawn)
    features = np.arange(len(MASK_FEATURES), dtype=np.float32) + 100 * region
    return Proposal(
        region,
        class_id,
        0,
        gain,
        features,
        window or full_window(mask.shape),
        np.stack([drawn, -drawn, others, others]),
        MaskPostprocessor(*map(_same_size, mask.shape)),
    )


def _same_size(size):
    return LinearAxis(np.eye(size, dtype=np.float32), np.arange(size), np.arange(size))


def one_hot(labels, classes=3):
    """(C, H, W): 0.6 for the label, less the farther a class is from it."""
    distance = np.abs(np.arange(classes)[:, None, None] - labels)
    return (0.6 * 0.5**distance).astype(np.float32)


def propose(labels, proposals_of, options=OPTIONS, scores=None):
    """Changes of labels (H, W), whose regions are given to `proposals_of`."""
    labels = np.asarray(labels, np.int32)
    scores = ClassScores(one_hot(labels) if scores is None else scores, labels.shape)
    regions = split_regions(labels, GridScores(scores, labels.shape), options, 100)
    grid = MaskGrid.of(labels, scores, regions)
    proposed = ProposedMap(labels, scores, regions, grid)
    for each in proposals_of(regions):
        proposed.paint(each)
    return proposed.changes(options.ignore_label)


def painted(labels, changes):
    proposed = np.array(labels, np.int32)
    assert (proposed[changes.rows, changes.columns] == changes.old).all()
    proposed[changes.rows, changes.columns] = changes.new
    return proposed


def test_changes_as_they_are_drawn():
    labels, mask, expected, drawn = columns_drawn_in(changes_module)
    labels = labels.astype(np.int32)
    changes = propose(labels, lambda regions: [proposal(1, 1, mask == "#")])
    np.testing.assert_array_equal(painted(labels, changes), expected.astype(np.int32))
    where = np.zeros(labels.shape, bool)
    where[changes.rows, changes.columns] = True
    np.testing.assert_array_equal(where, drawn == "x")


def test_what_is_painted_later_is_on_top():
    labels = np.zeros((8, 12), np.int32)
    labels[1:7, 1:7], labels[3:5, 8:10] = 1, 2
    both = np.zeros(labels.shape, bool)
    both[2:6, 6:9] = True

    def proposals(regions):
        return [
            proposal(
                region,
                int(regions.classes[region]),
                both | (regions.region_map == region),
            )
            for region in range(1, len(regions))
        ]

    for turned, on_top in ((list, 2), (lambda several: several[::-1], 1)):
        changes = propose(labels, lambda regions, turned=turned: turned(proposals(regions)))
        after = painted(labels, changes)
        assert (after[both] == on_top).all()
        assert on_top in changes.regions


def test_gains_are_the_judge_s_however_many_go_to_it_at_a_time(monkeypatch):
    labels, mask, *_ = columns_drawn_in(changes_module)
    changes = propose(
        labels.astype(np.int32), lambda regions: [proposal(1, 1, mask == "#", gain=0.25)]
    )
    expected = RuleJudge().change_gains(changes.features())
    monkeypatch.setattr(changes_module, "MOST_CHANGES", 3)
    assert len(changes) > 3
    np.testing.assert_array_equal(changes.gains(RuleJudge()), expected)


def test_gains_of_a_large_image_are_asked_of_one_change_of_each_kind_in_a_block():
    rows, columns = (each.ravel() for each in np.mgrid[:4, :1000])
    old = np.where((rows == 1) & (columns == 11), 2, 0).astype(np.int32)
    regions = (rows >= 3).astype(np.int32)
    there = (rows != 0) | (columns != 20)
    places = [each[there] for each in (rows, columns, old, np.ones_like(old), regions)]
    changes = Changes(*places, (4, 1000), lambda rows, columns, *_: rows + 10.0 * columns)

    asked = []

    class Judge(RuleJudge):
        def change_gains(self, features):
            asked.append(features)
            return features

    gains = np.full((4, 1000), -1.0)
    gains[changes.rows, changes.columns] = changes.gains(Judge())
    expected = np.add.outer([0, 0, 0, 3], 10.0 * (np.arange(1000) // 4 * 4))
    expected[1, 11] = 1 + 110  # of another class
    expected[:3, 20:24] = 210  # its corner does not change
    expected[0, 20] = -1
    np.testing.assert_array_equal(gains, expected)
    assert len(np.concatenate(asked)) == 2 * 250 + 1


def test_gains_of_no_change_are_none():
    nothing = np.zeros(0, np.int32)
    changes = Changes(*[nothing] * 5, (4, 1000), lambda rows, *_: np.zeros((0, 1), np.float32))
    assert changes.gains(RuleJudge()).shape == (0,)


def test_what_a_region_loses_goes_to_the_best_class_besides():
    labels = np.zeros((4, 8), np.int32)
    labels[:, 4:] = 1
    nothing = np.zeros(labels.shape, bool)
    changes = propose(labels, lambda regions: [proposal(1, 1, nothing)])
    assert (painted(labels, changes) == 0).all()
    assert len(changes) == 16


def test_tiles_are_no_part_of_the_answer(monkeypatch):
    labels, mask, *_ = columns_drawn_in(changes_module)
    labels = labels.astype(np.int32)
    window = Window(slice(0, 4), slice(1, 6))

    def changed():
        return propose(labels, lambda regions: [proposal(1, 1, mask == "#", window=window)])

    whole = changed()
    monkeypatch.setattr(arrays, "TILE_HW", (3, 2))
    tiled = changed()
    assert len(whole) > 0
    for name in ("rows", "columns", "old", "new", "regions"):
        np.testing.assert_array_equal(getattr(tiled, name), getattr(whole, name))
    np.testing.assert_array_equal(tiled.features(), whole.features())


def test_pixels_of_the_ignore_label_never_change():
    labels = np.zeros((4, 8), np.int32)
    labels[:, 3:5], labels[:, 5:] = 2, 1
    everything = np.ones(labels.shape, bool)
    options = RefineOptions(downsample_ratio=1, ignore_label=2)
    changes = propose(labels, lambda regions: [proposal(1, 1, everything)], options)
    np.testing.assert_array_equal(painted(labels, changes)[0], [1, 1, 1, 2, 2, 1, 1, 1])


def test_a_window_is_as_good_as_the_whole_image():
    labels, mask, *_ = columns_drawn_in(changes_module)
    labels = labels.astype(np.int32)
    window = Window(slice(0, 4), slice(1, 6))
    whole, part = (
        propose(labels, lambda regions, window=each: [proposal(1, 1, mask == "#", window=window)])
        for each in (None, window)
    )
    for name in ("rows", "columns", "old", "new", "regions"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(part, name))
    np.testing.assert_array_equal(whole.features(), part.features())


@pytest.mark.parametrize("most_scores", [2**22, 4])
def test_features_are_what_they_are_said_to_be(most_scores, monkeypatch):
    monkeypatch.setattr(changes_module, "MOST_SCORES", most_scores)
    labels, mask, *_ = columns_drawn_in(changes_module)
    labels = labels.astype(np.int32)
    scores = np.random.default_rng(0).random((3, *labels.shape)).astype(np.float32)
    changes = propose(
        labels, lambda regions: [proposal(1, 1, mask == "#", gain=0.25)], scores=scores
    )
    assert len(changes) > 0
    for y, x, old, new, features in zip(
        changes.rows, changes.columns, changes.old, changes.new, changes.features(), strict=True
    ):
        found = dict(zip(CHANGE_FEATURES, features, strict=True))
        ranked = np.sort(scores[:, y, x])
        assert found["score_old"] == scores[old, y, x]
        assert found["score_new"] == scores[new, y, x]
        assert found["score_best"] == ranked[-1]
        assert found["score_second"] == ranked[-2]
        assert found["logit"] == (6 if mask[y, x] == "#" else -6)
        assert found["consensus"] == 0.75
        assert (found["old_class"], found["new_class"]) == (old, new)
        assert found["gain"] == 0.25
        for name in CHANGE_FEATURES[11:]:
            assert found[name] == 100 + MASK_FEATURES.index(name)


def test_no_proposals_no_changes():
    changes = propose(np.zeros((4, 8), np.int32), lambda regions: [])
    assert len(changes) == 0
    assert changes.features().shape == (0, len(CHANGE_FEATURES))


def test_of_one_class_nothing_can_change():
    labels = np.zeros((4, 8), np.int32)
    scores = np.ones((1, 4, 8), np.float32)
    nothing = np.zeros(labels.shape, bool)
    changes = propose(labels, lambda regions: [proposal(0, 0, nothing)], scores=scores)
    assert len(changes) == 0
