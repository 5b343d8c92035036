"""The bootstrap over images."""

from __future__ import annotations

import numpy as np
import pytest

from sam_refine_quality.metrics.bootstrap import interval, resample


def test_resample_draws_as_many_images_as_there_are():
    times = resample(7, resamples=50, seed=3)
    assert times.shape == (50, 7)
    assert (times.sum(axis=1) == 7).all()
    assert len(np.unique(times, axis=0)) > 40
    np.testing.assert_array_equal(times, resample(7, resamples=50, seed=3))
    assert (times != resample(7, resamples=50, seed=4)).any()


def test_interval_of_a_mean_is_that_of_the_normal_distribution():
    """Of a mean of many values the bootstrap has mean and spread that are known."""
    values = np.random.default_rng(0).normal(5, 2, 400)
    means = resample(400, resamples=2000) @ values / 400
    low, high = interval(means)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_interval_has_the_share_of_the_resamples_between_its_ends():
    values = np.arange(1001.0)[:, None] * [1, 10]
    np.testing.assert_allclose(interval(values, 0.9), [[50, 500], [950, 9500]])


def test_interval_leaves_out_resamples_without_the_figure():
    values = np.array([[np.nan, np.nan], [4, np.nan], [4, np.nan]])
    np.testing.assert_array_equal(interval(values), [[4, np.nan], [4, np.nan]])
