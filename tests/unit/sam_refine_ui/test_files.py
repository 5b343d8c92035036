"""The files of a result hold all of it."""

import numpy as np
import pytest
from PIL import Image

from sam_refine_client import RefineResult, Region
from sam_refine_ui.classes import palette
from sam_refine_ui.files import save

PHOTO = np.full((6, 8, 3), 128, np.uint8)
REGION = Region(2, (6, 0, 7, 5), 0.5, 0.25, False)


def result(labels, regions):
    return RefineResult(labels, np.zeros((6, 8), np.int32), None, regions, {}, "x")


@pytest.mark.parametrize("top", [2, 255, 60000])
def test_saved_label_map_holds_the_labels(tmp_path, top):
    labels = np.zeros((6, 8), np.int32)
    labels[:, 4:] = top
    path, picture, _ = save(result(labels, (REGION,)), PHOTO, tmp_path / "new" / "one", ("sky",))
    with Image.open(path) as saved:
        np.testing.assert_array_equal(np.asarray(saved), labels)
        if top < 256:
            colours = np.asarray(saved.convert("RGB"))
            np.testing.assert_array_equal(colours, palette()[labels])
    with Image.open(picture) as saved:
        assert saved.width > 600


@pytest.mark.parametrize("regions", [(), (REGION,), (REGION, REGION)])
def test_saved_arrays_hold_maps_and_regions(tmp_path, regions):
    given = result(np.ones((6, 8), np.int32), regions)
    *_, path = save(given, PHOTO, tmp_path, ())
    with np.load(path) as arrays:
        np.testing.assert_array_equal(arrays["labels"], given.labels)
        np.testing.assert_array_equal(arrays["coarse_labels"], given.coarse_labels)
        assert arrays["region_classes"].tolist() == [2] * len(regions)
        assert arrays["region_boxes_xyxy"].shape == (len(regions), 4)
        assert arrays["region_scores"].tolist() == [0.5] * len(regions)
        assert arrays["region_predicted_ious"].tolist() == [0.25] * len(regions)
        assert arrays["region_kept"].tolist() == [False] * len(regions)
