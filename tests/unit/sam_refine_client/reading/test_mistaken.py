"""Soft masks, trimaps and maps of something else are told from maps of classes."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image, ImageFilter

from sam_refine.contract import InvalidRequestError
from sam_refine_client.reading.labels import load_labels, read_labels
from sam_refine_client.reading.notes import Notes

MASK = Image.new("L", (90, 60))
MASK.paste(255, (20, 15, 60, 40))
Y, X = np.mgrid[:60, :90]
DISC = np.clip(20 - np.hypot(Y - 30, X - 45), 0, 1)
"""Soft over one pixel, as a painted or a shrunk mask is."""
STREET = np.select([Y < 20, X < 30, Y + X < 90, X > 80], [23, 7, 11, 200], 1)
"""Labels of large areas, with slanted borders."""


def read(labels, **arguments):
    notes = Notes()
    found = read_labels(labels, notes, **arguments)
    return found, notes.sentences


def jpeg_of(picture):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return Image.open(file)


SOFT = {
    "one pixel": np.rint(DISC * 255),
    "a little": MASK.filter(ImageFilter.GaussianBlur(1)),
    "much": MASK.filter(ImageFilter.GaussianBlur(8)),
    "along the axes": np.clip((X - 20.0) * 6, 0, 255).round(),
    "that was a JPEG": Image.fromarray(np.asarray(jpeg_of(MASK))),
}


@pytest.mark.parametrize("form", SOFT)
@pytest.mark.parametrize("classes", [None, 2])
def test_mask_with_soft_edges_is_refused_with_what_makes_a_mask_or_scores_of_it(form, classes):
    rule = r"are a mask with soft edges, .* give labels > 127, or as scores logits=labels / 255"
    with pytest.raises(InvalidRequestError, match=rule):
        read(SOFT[form], classes=classes)


def test_mask_with_soft_edges_is_found_before_it_is_stretched(tmp_path):
    MASK.filter(ImageFilter.GaussianBlur(1)).save(tmp_path / "soft.png")
    with pytest.raises(InvalidRequestError, match=r"soft\.png are a mask with soft edges"):
        load_labels(tmp_path / "soft.png", Notes())


def test_mask_of_16_bits_with_soft_edges_is_named_by_its_own_levels():
    with pytest.raises(InvalidRequestError, match=r"labels > 32767, .* logits=labels / 65535"):
        read(np.rint(DISC * 65535).astype(np.uint16))


@pytest.mark.parametrize("labels", [STREET, np.where(Y == X, 255, STREET), STREET.repeat(3, 1)])
def test_labels_of_areas_are_no_mask_with_soft_edges(labels):
    found, said = read(labels, void=255)
    assert said == ()
    np.testing.assert_array_equal(found.values, labels)
    np.testing.assert_array_equal(read(labels)[0].values, labels)


def test_levels_that_are_classes_of_the_scores_are_classes():
    soft = np.rint(DISC * 255)
    np.testing.assert_array_equal(read(soft, classes=256)[0].values, soft)


@pytest.mark.parametrize("middle", [127, 128])
def test_trimap_is_three_classes_and_what_it_may_be_is_said(middle):
    trimap = np.select([X < 30, X < 34], [0, middle], 255)
    found, (said,) = read(trimap)
    np.testing.assert_array_equal(found.values, trimap)
    advice = re.search(r"if they are a trimap, give (.*), where -1 is void", said)[1]
    meant = eval(advice, {"np": np, "labels": trimap})
    np.testing.assert_array_equal(meant, np.select([X < 30, X < 34], [0, -1], 1))


def test_labels_that_were_resized_smoothly_are_said():
    street = Image.fromarray(np.where(STREET == 200, 40, STREET).astype(np.uint8))
    smooth = street.resize((180, 120), Image.Resampling.BILINEAR)
    _, (said,) = read(smooth)
    assert re.search(r"\d+ of \d+ are in no area, as resizing makes that is not by nearest", said)
    assert read(street.resize((180, 120), Image.Resampling.NEAREST))[1] == ()


COLOURED = np.dstack([STREET, STREET // 2, STREET * 0]).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "pixels", "message"),
    [
        ("ADE_train_00000001_seg.png", COLOURED, "is ADE20K's full annotation, whose colours hold"),
        ("a_gtFine_panoptic.png", COLOURED, "has panoptic ids for colours, not classes"),
        ("panoptic_val2017/0139.png", COLOURED, "has panoptic ids for colours, not classes"),
        ("0139.png", COLOURED, "if they are COCO's panoptic ids, convert them: panopticapi's"),
        ("a_gtFine_instanceIds.png", STREET.astype(np.uint16) * 100, "the numbers of instances"),
    ],
)
def test_file_whose_name_says_that_it_has_no_classes_is_refused(tmp_path, name, pixels, message):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    with pytest.raises(InvalidRequestError, match=message):
        read(path)


def test_grey_file_of_ade20k_says_that_it_counts_from_1(tmp_path):
    path = tmp_path / "ADE_val_00000001.png"
    Image.fromarray(np.where(STREET > 1, STREET, 0).astype(np.uint8)).save(path)
    _, (said,) = read(path)
    assert "in ADE20K 0 is no class, and classes count from 1; ignore_label=0 says so" in said
    assert read(path, void=0)[1] == ()
