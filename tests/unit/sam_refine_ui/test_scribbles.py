"""Painted colours come back as the classes they were painted for, edges and all."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from sam_refine_client.files.colours import class_palette
from sam_refine_ui.scribbles import labels_of_scribbles

BRUSHES = class_palette(8)


def layer(height, width, *rectangles):
    """(top, left, bottom, right, class, alpha) painted one after the other, bounds exclusive."""
    pixels = np.zeros((height, width, 4), np.uint8)
    for top, left, bottom, right, class_id, alpha in rectangles:
        pixels[top:bottom, left:right] = [*BRUSHES[class_id - 1], alpha]
    return pixels


@pytest.mark.parametrize("class_id", range(1, 9))
def test_scribbles_of_each_brush_are_its_class_and_the_rest_is_background(class_id):
    painted = layer(8, 8, (2, 3, 5, 7, class_id, 255))
    expected = np.zeros((8, 8), np.int32)
    expected[2:5, 3:7] = class_id
    found = labels_of_scribbles([painted], BRUSHES, (8, 8))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("layers", [[], [np.zeros((8, 8, 4), np.uint8)]])
def test_scribbles_of_nothing_are_all_background(layers):
    np.testing.assert_array_equal(labels_of_scribbles(layers, BRUSHES, (4, 6)), np.zeros((4, 6)))


@pytest.mark.parametrize(("alpha", "expected"), [(255, 3), (128, 3), (127, 0), (1, 0)])
def test_scribbles_covered_less_than_by_half_are_unpainted(alpha, expected):
    found = labels_of_scribbles([layer(4, 4, (1, 1, 3, 3, 3, alpha))], BRUSHES, (4, 4))
    assert found[1, 1] == expected


def test_scribbles_rounded_by_half_transparency_are_still_their_class():
    painted = layer(4, 4, (0, 0, 4, 4, 5, 130))
    premultiplied = (painted[..., :3].astype(float) * 130 / 255).round()
    painted[..., :3] = (premultiplied * 255 / 130).round().clip(0, 255)
    assert (labels_of_scribbles([painted], BRUSHES, (4, 4)) == 5).all()


@pytest.mark.parametrize("over", range(1, 9))
@pytest.mark.parametrize("under", range(1, 9))
def test_scribbles_with_smooth_edges_over_one_another_hold_no_third_class(over, under):
    side, scale = 64, 8
    mask = Image.new("L", (side * scale, side * scale))
    ImageDraw.Draw(mask).ellipse([10 * scale, 14 * scale, 50 * scale, 44 * scale], fill=255)
    share = np.asarray(mask.resize((side, side), Image.Resampling.BOX))[..., None] / 255
    mixed = (1 - share) * BRUSHES[under - 1] + share * BRUSHES[over - 1]
    painted = np.dstack([mixed.round(), np.full((side, side), 255)]).astype(np.uint8)
    found = labels_of_scribbles([painted], BRUSHES, (side, side))
    assert set(np.unique(found)) == {over, under}
    if over != under:
        assert np.mean((found == over) != (share[..., 0] > 0.5)) < 0.02


def test_scribbles_of_a_colour_of_no_brush_are_background():
    painted = np.full((6, 6, 4), 255, np.uint8)
    assert not labels_of_scribbles([painted], BRUSHES, (6, 6)).any()


def test_scribbles_of_one_pixel_s_width_are_their_class():
    painted = layer(9, 9, (4, 1, 5, 8, 6, 255))
    found = labels_of_scribbles([painted], BRUSHES, (9, 9))
    np.testing.assert_array_equal(found[4], [0, 6, 6, 6, 6, 6, 6, 6, 0])
    assert not np.delete(found, 4, axis=0).any()


def test_scribbles_of_a_later_layer_lie_on_top():
    layers = [layer(4, 4, (0, 0, 4, 4, 1, 255)), layer(4, 4, (0, 0, 2, 4, 2, 255))]
    found = labels_of_scribbles(layers, BRUSHES, (4, 4))
    np.testing.assert_array_equal(found[:, 0], [2, 2, 1, 1])


@pytest.mark.parametrize("size", [(5, 9), (31, 17), (1, 1)])
def test_scribbles_of_another_size_are_stretched_without_new_classes(size):
    painted = layer(10, 18, (0, 0, 10, 9, 2, 255), (0, 9, 10, 18, 4, 255))
    found = labels_of_scribbles([painted], BRUSHES, size)
    assert found.shape == size
    assert set(np.unique(found)) <= {2, 4}
    assert found[0, -1] == 4


def test_scribbles_leave_their_layers_alone():
    painted = layer(4, 4, (0, 0, 2, 2, 1, 255))
    painted.setflags(write=False)
    labels_of_scribbles([painted], BRUSHES, (8, 8))
