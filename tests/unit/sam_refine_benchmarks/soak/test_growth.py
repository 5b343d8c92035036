"""The verdict on what a service takes, with made figures."""

from collections import Counter

import pytest
from typer.testing import CliRunner

from sam_refine_benchmarks.soak import soak as module
from sam_refine_benchmarks.soak.__main__ import app
from sam_refine_benchmarks.soak.growth import (
    LEAST_SAMPLES,
    MIB,
    Sample,
    Taken,
    are_enough,
    growth,
)
from sam_refine_benchmarks.soak.soak import Outcome

COUNT = LEAST_SAMPLES
LIFE = 37
"""Samples from one kill of a process to the next."""


def run(reloads=lambda place: 0, **kinds):
    """Samples of a run; each kind as a function of the place in it: MiB and open files, or None."""
    samples = []
    for place in range(COUNT):
        figures = {kind: of_place(place) for kind, of_place in kinds.items()}
        taken = {kind: Taken(int(mib * MIB), files)
                 for kind, (mib, files) in figures.items() if mib is not None}  # fmt: skip
        samples.append(Sample(reloads(place), taken))
    return samples


def flat(place):
    return 400, 30


def test_what_stays_is_flat():
    assert growth(run(supervisor=flat, sam_refine=flat)) == []


def test_growth_in_the_first_half_is_warmth():
    assert growth(run(sam_refine=lambda place: (min(10 + place * 10, 600), min(place, 60)))) == []


def test_memory_that_grows_names_who_takes_it():
    grown = growth(run(supervisor=flat, sam_refine=lambda place: (100 + place, 30)))
    assert grown == ["sam_refine from 219 to 339 MiB"]


def test_descriptors_that_grow_name_who_has_them():
    grown = growth(run(supervisor=lambda place: (50, 20 + place), sam_refine=flat))
    assert grown == ["supervisor from 139 to 259 open files"]


@pytest.mark.parametrize(("after", "grown"), [(532, []), (533, ["a from 400 to 533 MiB"])])
def test_bound_is_a_quarter_and_32_mib(after, grown):
    assert growth(run(a=lambda place: (400 if place < COUNT / 2 else after, 30))) == grown


@pytest.mark.parametrize(("after", "grown"), [(53, []), (54, ["a from 30 to 54 open files"])])
def test_bound_is_a_quarter_and_16_files(after, grown):
    assert growth(run(a=lambda place: (400, 30 if place < COUNT / 2 else after))) == grown


def test_processes_that_are_replaced_are_flat_where_each_takes_no_more_than_the_one_before():
    def replaced(place):
        age = place % LIFE
        return (None, 0) if age < 3 else (200 + 10 * min(age, 30), 30)

    assert growth(run(supervisor=flat, sam_image_encoder=replaced)) == []


def test_growth_that_outlives_replaced_processes_is_seen():
    def left_behind(place):
        age, lives = place % LIFE, place // LIFE
        return (None, 0) if age < 3 else (50 + age + 40 * lives, 30)

    (grown,) = growth(run(tritonserver=left_behind))
    assert grown.startswith("tritonserver from ")


def reloads(place):
    """A server that is restarted often at first, and then lives on."""
    return place % LIFE if place < COUNT / 2 else place - COUNT // 2


@pytest.mark.parametrize(
    ("kind", "mib", "grown"),
    [
        ("tritonserver", 5, False),
        ("tritonserver", 8, True),
        ("/dev/shm", 14, False),
        ("/dev/shm", 20, True),
        ("supervisor", 3, True),
    ],
)
def test_what_reloads_may_leave_is_no_growth(kind, mib, grown):
    samples = run(reloads, **{kind: lambda place: (100 + mib * reloads(place), 30)})
    assert bool(growth(samples)) == grown


def test_kind_that_is_missing_for_a_half_is_not_judged():
    late = run(sam_mask_judge=lambda place: flat(place) if place > COUNT / 2 else (None, 0))
    assert growth(late) == []


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
        (lambda place: (place, 30), 1, "memory and open files: supervisor from 119 to 239 MiB"),
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
