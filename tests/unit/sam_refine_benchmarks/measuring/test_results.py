from __future__ import annotations

import json

import pytest

from sam_refine_benchmarks.measuring.pairs import Timing
from sam_refine_benchmarks.measuring.results import (
    Claim,
    Figure,
    Result,
    Series,
    at_least_claim,
    at_most_claim,
    duration,
    faster,
    limit_claim,
    megabytes,
)
from sam_refine_benchmarks.sections.request import overhead_claim


def timing(*seconds):
    return Timing(tuple((each,) for each in seconds))


def test_faster_shows_times_per_part_and_the_ratio_of_medians():
    claim = faster("decoder", timing(3.2, 3.2, 3.2), timing(0.32, 0.4, 0.2), 10, share=32)
    assert claim == Claim(
        "decoder", "100 ms", "10 ms", "10.0 (8.00 to 16.0)", pytest.approx(10), "≥ 10", True
    )


@pytest.mark.parametrize(("value", "met"), [(9.99, False), (10.0, True)])
def test_at_least_claim_is_met_from_its_goal_on(value, met):
    assert at_least_claim("x", "", "", value, 10).met is met


@pytest.mark.parametrize(("value", "met"), [(1.5, True), (1.51, False)])
def test_at_most_claim_is_met_up_to_its_goal(value, met):
    assert at_most_claim("x", "", "", value, 1.5).met is met


def test_claim_without_goal_is_neither_met_nor_missed():
    claim = at_least_claim("x", "", "", 3.0, None)
    assert (claim.goal, claim.met) == ("", None)


def test_limit_claim_pairs_ours_with_the_product_of_the_same_round():
    ours, product = timing(1.0, 2.0, 3.0), timing(0.1, 0.1, 0.2)
    claim = limit_claim("x", limit_s=1.0, ours=ours, product=product, at_most=1.5)
    assert (claim.before, claim.ours, claim.met) == ("limit 1.0 s", "2.0 s", False)
    assert claim.ratio == "2.00 (1.00 to 2.00)"


@pytest.mark.parametrize(
    ("client_s", "in_process_s", "met", "shown"),
    [
        (1.04, 1.0, True, "+40 ms, +4.0% (+4% to +4%)"),
        (0.13, 0.1, True, "+30 ms, +30.0% (+30% to +30%)"),
        (10.6, 10.0, False, "+600 ms, +6.0% (+6% to +6%)"),
        (0.98, 1.0, True, "-20 ms, -2.0% (-2% to -2%)"),
    ],
)
def test_overhead_claim_allows_five_percent_or_forty_milliseconds(
    client_s, in_process_s, met, shown
):
    claim = overhead_claim("x", timing(client_s, client_s), timing(in_process_s, in_process_s))
    assert (claim.met, claim.ratio) == (met, shown)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(120.4, "120 s"), (2.44, "2.4 s"), (0.2, "200 ms"), (0.0124, "12 ms"), (0.00124, "1.2 ms")],
)
def test_duration_has_the_unit_that_suits_it(seconds, shown):
    assert duration(seconds) == shown


def test_megabytes_are_grouped():
    assert megabytes(1_234_567_890) == "1 235 MB"


def test_series_of_timings_has_medians_between_lowest_and_highest():
    series = Series.of("ours", {8: timing(0.1, 0.3, 0.2), 16: timing(0.4)}, 1000)
    assert series == Series(
        "ours", (8, 16), pytest.approx((200, 400)), pytest.approx((100, 400)),
        pytest.approx((300, 400)),
    )  # fmt: skip


def test_result_to_json_is_json_with_claims_figures_and_data():
    figure = Figure("f", "F", "x", "y", (Series("s", (1, 2), (3, 4)),))
    result = Result((faster("a", timing(2.0), timing(1.0)),), {"regions": 3}, (figure,), ("note",))
    read = json.loads(json.dumps(result.to_json()))
    assert read["claims"][0]["value"] == 2
    assert read["figures"][0]["series"][0]["y"] == [3, 4]
    assert (read["regions"], read["remarks"]) == (3, ["note"])
