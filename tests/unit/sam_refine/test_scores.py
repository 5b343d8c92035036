import numpy as np

from sam_refine.scores import ClassScores, coarse_map, grid_size


def test_grid_size_is_floored_and_never_empty():
    assert grid_size((5, 7), 2) == (2, 3)
    assert grid_size((1, 7), 4) == (1, 1)


def test_coarse_map_gives_ties_to_the_lowest_class():
    scores = np.array([[[0.2, 0.5]], [[0.5, 0.5]], [[0.5, 0.1]]], np.float32)
    labels_image, _, _ = coarse_map(ClassScores(scores, (1, 2)), None, (1, 1))
    assert labels_image.tolist() == [[1, 0]]


def test_coarse_map_downsamples_labels_by_nearest_and_scores_by_bilinear():
    labels = np.arange(25, dtype=np.int32).reshape(5, 5)
    scores = ClassScores(np.arange(25, dtype=np.float32).reshape(1, 5, 5), (5, 5))
    labels_image, labels_grid, scores_grid = coarse_map(scores, labels, (2, 2))
    assert labels_image is labels
    assert labels_grid.tolist() == [[0, 2], [10, 12]]  # floor(i * 5 / 2)
    np.testing.assert_allclose(scores_grid[0], [[4.5, 7], [17, 19.5]])  # sources 0.75 and 3.25


def test_scores_know_their_best_and_their_sign():
    scores = ClassScores(np.array([[[0.25, -1]], [[0.5, -2]]], np.float16), (1, 2))
    assert scores.best().tolist() == [[0.5, -1]]
    assert not scores.nonnegative
    assert scores.image().dtype == np.float32
