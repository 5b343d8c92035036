import re

import numpy as np
import pytest

from sam_refine_client.files.colours import class_palette


@pytest.mark.parametrize(("count", "distance"), [(13, 60), (256, 20)])
def test_class_palette_has_colours_far_apart_and_none_near_black(count, distance):
    palette = class_palette(count).astype(int)
    distances = np.abs(palette[:, None] - palette[None]).sum(-1)
    assert distances[~np.eye(count, dtype=bool)].min() >= distance
    assert palette.max(axis=1).min() > 100


@pytest.mark.parametrize("count", [0, 1, 7, 12, 13, 100])
def test_class_palette_of_fewer_classes_is_a_prefix(count):
    palette = class_palette(count)
    assert palette.shape == (count, 3)
    assert palette.dtype == np.uint8
    np.testing.assert_array_equal(palette, class_palette(256)[:count])


def test_class_palette_changed_by_its_caller_stays_as_it_was():
    class_palette(3)[:] = 0
    assert class_palette(3).all()


@pytest.mark.parametrize("count", [-1, 257])
def test_class_palette_outside_its_range_is_refused(count):
    with pytest.raises(ValueError, match=re.escape(f"count must be in [0, 256], got {count}")):
        class_palette(count)


def test_class_zero_which_usually_is_the_background_is_grey_and_no_other_of_the_first_is():
    palette = class_palette(13).astype(int)
    spread = palette.max(axis=1) - palette.min(axis=1)
    assert spread[0] < 20
    assert spread[1:].min() > 50
