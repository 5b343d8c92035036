"""Which images are kept for the page."""

from __future__ import annotations

import numpy as np

from sam_refine.contract import RefineOptions
from sam_refine_quality import evaluate
from sam_refine_quality.report.gallery import Gallery
from support.quality import ScriptedClient, sample

VOID = 9


def gallery_of(changes, shown=2):
    """Of images of 4 x 4 of which `changes` pixels become right, or wrong where it is negative."""
    samples, refined = [], []
    for index, change in enumerate(changes):
        truth, coarse, better = (np.zeros((4, 4), np.int32) for _ in range(3))
        (coarse if change > 0 else better).flat[: abs(change)] = 1
        samples.append(sample(f"{index}", truth, coarse, 2))
        refined.append(better)
    gallery = Gallery(shown)
    client = ScriptedClient(lambda labels, options: refined.pop(0))
    evaluate(client, samples, {"set": RefineOptions()}, watch=gallery.add)
    return gallery


def names(exhibits):
    return [exhibit.name for exhibit in exhibits]


def test_gallery_has_those_that_gained_and_lost_most_in_that_order():
    gallery = gallery_of([1, -3, 4, 0, 2, -1, -2])
    assert names(gallery.gained("set")) == ["2", "4"]
    assert names(gallery.lost("set")) == ["1", "6"]
    assert gallery.gained("set")[0].gain == 25


def test_gallery_keeps_the_first_of_equals():
    assert names(gallery_of([2, 2, 2]).gained("set")) == ["0", "1"]


def test_gallery_of_images_that_stayed_is_empty():
    gallery = gallery_of([0, 0])
    assert gallery.gained("set") == gallery.lost("set") == []


def test_gallery_passes_over_failed_and_void_images():
    void = sample("void", np.full((4, 4), VOID), np.zeros((4, 4), np.int32), 2)
    small = sample("small", np.zeros((4, 4), np.int32), np.zeros((5, 4), np.int32), 2)
    good = sample("good", np.zeros((4, 4), np.int32), np.ones((4, 4), np.int32), 2)
    gallery = Gallery()
    client = ScriptedClient(lambda labels, options: 1 - labels)
    evaluate(client, [void, small, good], {"set": RefineOptions()}, ignore_label=VOID,
             watch=gallery.add)  # fmt: skip
    assert names(gallery.gained("set")) == ["good"]
    assert gallery.lost("set") == []
