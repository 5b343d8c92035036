"""The verdict on what a service takes, with made figures."""

from collections import Counter

import pytest
from typer.testing import CliRunner

from sam_refine_benchmarks.soak import soak as module
from sam_refine_benchmarks.soak.__main__ import app
from sam_refine_benchmarks.soak.growth import LEAST_SAMPLES, MIB, Taken, are_enough, growth
from sam_refine_benchmarks.soak.soak import Outcome

COUNT = 4 * LEAST_SAMPLES


def run(**kinds):
    """Samples of a run; each kind as a function of the place in it: MiB and open files."""
    samples = []
    for place in range(COUNT):
        taken = {kind: figures(place) for kind, figures in kinds.items()}
        samples.append({kind: Taken(int(each[0] * MIB), each[1])
                        for kind, each in taken.items() if each is not None})  # fmt: skip
    return samples


def flat(place):
    return 400, 30


def test_what_stays_is_flat():
    assert growth(run(supervisor=flat, sam_refine=flat)) == []


def test_growth_before_the_second_quarter_is_warmth():
    assert growth(run(sam_refine=lambda place: (min(10 + place * 10, 600), min(place, 60)))) == []


def test_memory_that_grows_names_who_takes_it():
    grown = growth(run(supervisor=flat, tritonserver=lambda place: (100 + place, 30)))
    assert grown == ["tritonserver from 190 to 310 MiB"]


def test_descriptors_that_grow_name_who_has_them():
    grown = growth(run(supervisor=lambda place: (50, 20 + place), sam_refine=flat))
    assert grown == ["supervisor from 110 to 230 open files"]


@pytest.mark.parametrize(("after", "grown"), [(532, []), (533, ["a from 400 to 533 MiB"])])
def test_bound_is_a_quarter_and_32_mib(after, grown):
    assert growth(run(a=lambda place: (400 if place < COUNT / 2 else after, 30))) == grown


@pytest.mark.parametrize(("after", "grown"), [(53, []), (54, ["a from 30 to 54 open files"])])
def test_bound_is_a_quarter_and_16_files(after, grown):
    assert growth(run(a=lambda place: (400, 30 if place < COUNT / 2 else after))) == grown


def test_processes_that_are_replaced_are_flat_where_each_takes_no_more_than_the_one_before():
    """Killed at odd times: it is gone, then fresh beside the old one, then warm."""

    def replaced(place):
        age = place % 37
        if age < 3:
            return None
        return (900, 70) if age < 6 else (200 + 10 * min(age, 30), 30)

    assert growth(run(supervisor=flat, sam_image_encoder=replaced)) == []


def test_growth_that_outlives_replaced_processes_is_seen():
    def left_behind(place):
        return None if place % 37 < 3 else (50 + place % 37 + 20 * (place // 37), 30)

    (grown,) = growth(run(tritonserver=left_behind))
    assert grown.startswith("tritonserver from ")


def test_kind_that_is_missing_for_a_quarter_is_not_judged():
    assert (
        growth(run(sam_mask_judge=lambda place: flat(place) if place > COUNT / 2 else None)) == []
    )


def test_short_run_has_no_verdict():
    samples = run(supervisor=lambda place: (place, place))
    assert are_enough(samples)
    assert not are_enough(samples[1:])
    assert Outcome(samples=samples).grown
    assert Outcome(samples=samples[1:]).grown == []


@pytest.mark.parametrize(
    ("figures", "exit_code", "line"),
    [
        (flat, 0, "memory and open files: flat"),
        (lambda place: (place, 30), 1, "memory and open files: supervisor from 90 to 210 MiB"),
    ],
)
def test_soak_that_grew_ends_with_an_error_and_says_what(monkeypatch, figures, exit_code, line):
    outcome = Outcome(Counter(right=5), samples=run(supervisor=figures))

    def soak(*arguments):
        arguments[-1](module._verdict(outcome))
        return outcome

    monkeypatch.setattr(module, "soak", soak)
    result = CliRunner().invoke(app, ["--model-repository", "."])
    assert result.exit_code == exit_code
    assert result.stdout.splitlines() == [line]
