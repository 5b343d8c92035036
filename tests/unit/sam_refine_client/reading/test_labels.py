"""Label maps in all forms become the same ids, with their void, or are refused."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sam_refine.contract import InvalidRequestError
from sam_refine_client.reading.labels import labels_size_of, read_labels, stretched
from sam_refine_client.reading.notes import Notes
from support.inputs.forms import png

LABELS = np.array([[0, 0, 1, 1], [0, 3, 3, 1], [2, 2, 3, 1]])
MASK = LABELS > 1


def read(labels, **arguments):
    notes = Notes()
    found = read_labels(labels, notes, **arguments)
    return found, notes.sentences


def saved(picture, kind="PNG"):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def palette_png(labels=LABELS, colours=((9, 9, 9), (1, 2, 3), (5, 4, 3), (0, 0, 7))):
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette([value for colour in colours for value in colour])
    return picture


# --- Taken -----------------------------------------------------------------------------------

CERTAIN = {
    **{dtype: LABELS.astype(dtype) for dtype in ("uint8", "int16", "int64", "uint64", "float32")},
    "tensor": torch.from_numpy(LABELS),
    "float tensor with gradient": torch.from_numpy(LABELS).float().requires_grad_(),
    "(1, H, W)": LABELS[None],
    "mmsegmentation": SimpleNamespace(
        pred_sem_seg=SimpleNamespace(data=torch.from_numpy(LABELS)[None]), seg_logits=None
    ),
    "(1, 1, H, W)": torch.from_numpy(LABELS)[None, None],
    "(H, W, 1)": LABELS[..., None],
    "PIL": Image.fromarray(LABELS.astype(np.uint8)),
    "PIL, 32 bits": Image.fromarray(LABELS.astype(np.int32)),
    "PIL, palette": palette_png(),
    "PNG of 8 bits": png(LABELS, 8),
    "PNG of 2 bits": png(LABELS, 2),
    "PNG of 4 bits": png(LABELS, 4),
    "PNG of 16 bits": png(LABELS, 16),
    "PNG with a palette": saved(palette_png()),
    "PIL image of 4 bits, not decoded yet": Image.open(io.BytesIO(png(LABELS, 4))),
    "TIFF": saved(Image.fromarray(LABELS.astype(np.uint8)), "TIFF"),
    "BMP": saved(Image.fromarray(LABELS.astype(np.uint8)), "BMP"),
}


@pytest.mark.parametrize("form", CERTAIN)
def test_labels_whose_meaning_is_certain_are_taken_and_nothing_said(form):
    found, said = read(CERTAIN[form], size_hw=(3, 4))
    assert said == ()
    assert (found.values.dtype, found.void) == (np.int32, None)
    np.testing.assert_array_equal(found.values, LABELS)


@pytest.mark.parametrize("mask", [MASK, torch.from_numpy(MASK), png(MASK.astype(int), 1)])
def test_mask_is_labels_0_and_1(mask):
    found, said = read(mask)
    assert said == ()
    np.testing.assert_array_equal(found.values, MASK)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt", "a.png", "A.PNG"])
def test_labels_of_files_are_those_that_were_saved(tmp_path, name):
    path = tmp_path / name
    {
        ".npy": lambda: np.save(path, LABELS),
        ".npz": lambda: np.savez(path, LABELS),
        ".pt": lambda: torch.save(torch.from_numpy(LABELS), path),
        ".png": lambda: path.write_bytes(png(LABELS, 4)),
    }[path.suffix.lower()]()
    for given in (path, str(path)):
        np.testing.assert_array_equal(read(given)[0].values, LABELS)


def test_wide_labels_of_a_png_of_16_bits_are_as_they_are():
    found, _ = read(png(LABELS * 1000, 16))
    np.testing.assert_array_equal(found.values, LABELS * 1000)


# --- Void ------------------------------------------------------------------------------------


@pytest.mark.parametrize("void", [None, -1, 255])
@pytest.mark.parametrize("classes", [None, 4])
def test_minus_1_is_void_written_as_255_and_said(void, classes):
    found, said = read(LABELS - (LABELS == 3) * 4, void=void, classes=classes)
    assert said == ("labels: -1 is void, such pixels keep it; it is written as 255",)
    assert found.void == 255
    np.testing.assert_array_equal(found.values, np.where(LABELS == 3, 255, LABELS))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(np.array([[-1, 0, 300]]), None), (np.array([[-1, 0, 255]]), None),
     (np.array([[-1, 0, 1]]), 256), (np.array([[-1, 254, 255]]), None)],
)  # fmt: skip
def test_minus_1_is_written_as_65535_where_255_may_be_a_class(labels, classes):
    found, (said,) = read(labels, classes=classes)
    assert said.endswith("written as 65535")
    np.testing.assert_array_equal(found.values, np.where(labels < 0, 65535, labels))


def test_any_label_below_0_that_the_caller_names_is_void():
    found, (said,) = read(np.array([[-100, 0, 1]]), void=-100)
    assert said.startswith("labels: -100 is void")
    assert (found.values.tolist(), found.void) == ([[255, 0, 1]], 255)


@pytest.mark.parametrize(
    ("labels", "classes", "void"),
    [
        ([0, 1, 2, 255], None, 255),
        ([1, 255], None, 255),
        ([0, 1, 65535], None, 65535),
        ([0, 255], 19, 255),
        ([0, 1, 255], 2, 255),
        ([0, 255], None, None),  # a mask
        ([255], None, None),
        ([0, 127, 255], None, None),  # grey levels
        ([0, 85, 170, 255], None, None),
        ([*range(256)], None, None),
        ([0, 255], 256, None),
    ],
)
def test_255_is_void_where_it_can_hardly_be_a_class_and_that_is_said(labels, classes, void):
    found, said = read(np.array([labels]).repeat(2, axis=1), classes=classes)
    assert found.void == void
    sentence = (
        f"labels: {void} is taken as void, such pixels keep it; say so by ignore_label={void}, "
        "or ignore_label=-1 if it is a class"
    )
    expected = [] if void is None else [sentence]
    assert [each for each in said if "taken as void" in each] == expected
    assert found.values[:, ::2].tolist() == [labels]


def test_ignore_label_of_the_caller_says_which_label_is_void():
    labels = np.array([[0, 1, 2, 255]])
    assert read(labels, void=255)[0].void == 255
    assert read(labels, void=2)[0].void == 2
    found, said = read(labels, void=-1)
    assert (found.void, said) == (None, ())


# --- Doubtful --------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "bits"), [(17, 4), (85, 2)])
def test_labels_that_pillow_stretched_are_said(factor, bits):
    found, said = read(LABELS * factor, classes=256)
    assert f"all are multiples of {factor}, as Pillow makes of a PNG of {bits} bits" in said[-1]
    np.testing.assert_array_equal(found.values, LABELS * factor)


@pytest.mark.parametrize("deep", [False, True])
def test_three_equal_channels_are_one(deep):
    three = np.dstack([LABELS] * 3)
    found, (said,) = read(png(three, 16) if deep else three)
    assert "of three equal channels one is taken" in said
    np.testing.assert_array_equal(found.values, LABELS)


def test_transparent_pixels_have_their_labels_and_that_is_said():
    found, (said,) = read(png(np.dstack([LABELS, MASK * 255]), 8))
    assert "labels of transparent pixels count all the same" in said
    np.testing.assert_array_equal(found.values, LABELS)


def test_masks_by_id_and_name_are_classes():
    found, said = read({2: MASK, 1: LABELS == 1, 7: None})
    assert said == ()
    np.testing.assert_array_equal(found.values, np.where(MASK, 2, LABELS == 1))
    found, said = read({"cup": (LABELS == 1) * 255, "spoon": MASK})
    assert said == ("labels: the classes are numbered, 0 the rest, 1 cup, 2 spoon",)
    np.testing.assert_array_equal(found.values, np.where(MASK, 2, LABELS == 1))


def test_masks_that_overlap_are_said_and_what_none_covers_beside_class_0_is_void():
    found, said = read({0: LABELS == 0, 1: LABELS < 2, 2: LABELS == 2})
    assert said[0] == "labels: masks overlap at 3 pixels, where the later class counts"
    expected = np.where(LABELS < 2, 1, np.where(LABELS == 2, 2, 255))
    np.testing.assert_array_equal(found.values, expected)
    assert found.void == 255


def test_masks_of_a_pipeline_are_numbered_classes_those_of_one_class_together():
    cups = [{"label": "cup", "mask": Image.fromarray((each * 255).astype(np.uint8)), "score": 0.9}
            for each in (LABELS == 1, LABELS == 2)]  # fmt: skip
    found, said = read([*cups, {"label": "table", "mask": LABELS == 3, "score": None}])
    assert said == ("labels: the classes are numbered, 0 the rest, 1 cup, 2 table",)
    np.testing.assert_array_equal(found.values, np.array([0, 1, 1, 2])[LABELS])


# --- Refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("kind", ["png", "npy"])
def test_content_of_a_file_and_an_opened_one_are_read(is_open, kind):
    file = io.BytesIO()
    if kind == "png":
        Image.fromarray(LABELS.astype(np.uint8)).save(file, "PNG")
    else:
        np.save(file, LABELS)
    found, said = read(file if is_open else file.getvalue())
    np.testing.assert_array_equal(found.values, LABELS)
    assert said == ()


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_matrix_of_numpy_is_a_label_map():
    assert read(np.matrix(LABELS))[0].values.tolist() == LABELS.tolist()


def test_numbers_of_instances_are_said():
    found, (said,) = read(np.where(MASK, 26002, 7))
    assert said.endswith("give np.where(labels < 1000, labels, labels // 1000)")
    np.testing.assert_array_equal(found.values, np.where(MASK, 26002, 7))
    assert read(np.where(MASK, 1203, 7))[1] == ()


def test_frames_of_a_label_map_beyond_the_first_are_said():
    pages = [Image.fromarray(np.full((3, 4), each, np.uint8)) for each in (1, 2)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    found, said = read(file.getvalue())
    assert (found.values == 1).all()
    assert said == ("labels has 2 frames: the first is taken",)


@pytest.mark.parametrize("key", [str, np.int64])
def test_masks_by_ids_as_text_or_of_numpy_are_of_these_ids(key):
    found, said = read({key(7): MASK, key(21): ~MASK})
    np.testing.assert_array_equal(found.values, np.where(MASK, 7, 21))
    assert said == ()


@pytest.mark.parametrize(
    ("labels", "arguments", "message"),
    [
        (LABELS - 2, {}, "labels must be class ids from 0, or -1 for void, got -2"),
        (LABELS + 0.5, {}, "with fractions; if they are scores, give them as logits"),
        (np.where(MASK, np.nan, 1), {}, "np.where(np.isfinite(labels), labels, -1)"),
        (LABELS * 1j, {}, "labels must be an array of integers, got complex128"),
        (LABELS + 2**40, {}, "labels must fit int32"),
        (LABELS[0], {}, "labels must have shape (H, W), got (4,)"),
        (LABELS[:0], {}, "labels must have values, got the shape (0, 4)"),
        (np.stack([LABELS, LABELS, LABELS])[:, None], {}, "got a batch of 3"),
        (np.stack([i == LABELS for i in range(4)]), {}, "give labels.argmax(0)"),
        (np.dstack([i == LABELS for i in range(4)]) * 1, {}, "(3, 4, 4), one mask for each class;"),
        (np.dstack([MASK, ~MASK]) * 1, {}, "one mask for each class; give labels.argmax(2)"),
        (np.dstack([MASK, ~MASK]) * 255, {}, "one mask for each class; give labels.argmax(2)"),
        (np.dstack([MASK, ~MASK, MASK & False]) * 1, {}, "give labels.argmax(2)"),
        (
            np.stack([MASK, MASK]).repeat(2, 2) * 255,
            {},
            "give ((labels > 0) * np.arange(1, labels.shape[0] + 1)",
        ),
        (np.dstack([LABELS, LABELS + 5]), {}, "whose last channel, up to 8, is no alpha; give one"),
        (np.random.default_rng(0).random((3, 9, 9)), {}, "if they are the image, as image"),
        (
            LABELS.astype(np.float32) / 255,
            {},
            "if ToTensor made them of labels, give (labels * 255",
        ),
        (LABELS.T, {"size_hw": (3, 4)}, "got 4 x 3, which is like (W, H); give labels.T"),
        (np.random.default_rng(0).random((5, 3, 4)), {}, "if they are scores, give them as logits"),
        (LABELS, {"size_hw": (6, 8)}, "6 x 8, got 3 x 4; give np.asarray(PIL.Image.fromarray(lab"),
        ({}, {}, "must have a mask for at least one class, got none"),
        ({1: LABELS}, {}, "labels of 1 must be a mask, of 0 and one value above it, got 0, 1, 2"),
        ({"cup": MASK * 255 - (LABELS == 0)}, {}, "of cup must be a mask, of 0 and one value"),
        ({"shapes": [], "imagePath": "a.jpg"}, {}, "got LabelMe's JSON, of polygons"),
        ({"counts": "abc", "size": [3, 4]}, {}, "is a run-length mask of one thing"),
        (np.ma.masked_equal(LABELS, 1), {}, "labels has masked values; say what they are"),
        ({1: MASK, 2: MASK[:2]}, {}, "masks of one size, got (3, 4) and (2, 4) of 2"),
        (saved(Image.fromarray(LABELS.astype(np.uint8)), "JPEG"), {}, "got JPEG, which changes"),
        (
            Image.open(io.BytesIO(saved(Image.fromarray(LABELS.astype(np.uint8)), "JPEG"))),
            {},
            "got JPEG, which changes",
        ),
        (
            saved(Image.fromarray(LABELS.astype(np.uint8)), "WEBP"),
            {},
            "got WEBP, which may change them",
        ),
        (SimpleNamespace(pred_masks=MASK, pred_classes=[1]), {}, "got masks of single things"),
        (SimpleNamespace(mask=MASK, class_id=[1]), {}, "by its id, of all of its things"),
        ({"masks": torch.ones(2, 1, 3, 4), "labels": [1, 2]}, {}, "got masks of single things"),
        ("https://a.b/l.png", {}, "labels must be a path, got the URL 'https://a.b/l.png'"),
        (np.stack([np.tile(LABELS, (2, 2))] * 2), {}, "got (2, 6, 8); of several maps give one"),
        (saved(Image.fromarray(LABELS.astype(np.uint8)).convert("RGB"), "WEBP"), {}, "got WEBP"),
        (np.where(MASK, -100, 1), {}, "got -100; if that is void, give ignore_label=-100"),
        (np.array([[0, -1]]).astype(np.uint32), {}, "-1 for void, give labels.astype(np.int32)"),
        (np.where(MASK, 8405120, 7), {}, "at most 65535, got 8405120; if they are COCO's panoptic"),
        (np.where(MASK, 8405120, 7), {"void": 255}, "at most 65535, got 8405120"),
        (
            np.arange(3 * 48, dtype=np.uint8).reshape(3, 6, 8),
            {},
            "if it is in colours, give labels.transpose(1, 2, 0)",
        ),
        ({2**40: MASK}, {}, "labels must be class ids of at most 65535, got 1099511627776"),
        ({"9" * 5000: MASK}, {}, "labels must be class ids of at most 65535, got 9999999"),
        ("a.txt", {}, "a.txt must be a label map, got text, such as polygons of YOLO"),
        (b"no picture", {}, "labels must be a picture such as JPEG or PNG, got text"),
        (5, {}, "labels must be a numpy array or a torch tensor, got int"),
    ],
)
def test_labels_that_are_wrong_are_refused_with_what_to_do(labels, arguments, message):
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        read(labels, **arguments)


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("is_whole", [True, False])
def test_advice_for_masks_works_as_it_stands(axis, is_whole):
    labels = LABELS.repeat(2, 0).repeat(2, 1)
    classes = range(4) if is_whole else range(1, 4)
    masks = np.stack([i == labels for i in classes], axis=axis).astype(np.uint8)
    with pytest.raises(InvalidRequestError) as caught:
        read(masks)
    advice = str(caught.value).partition("; give ")[2].partition(", where")[0]
    np.testing.assert_array_equal(eval(advice, {"np": np, "labels": masks}), labels)


def test_advice_for_another_size_works_as_it_stands():
    with pytest.raises(InvalidRequestError) as caught:
        read(LABELS, size_hw=(6, 8))
    advice = str(caught.value).partition("; give ")[2]
    import PIL

    given = eval(advice, {"np": np, "PIL": PIL, "labels": LABELS.astype(np.int64)})
    np.testing.assert_array_equal(given, LABELS.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    ("greys", "is_said"),
    [([7, 26, 26, 30], True), ([255, 0], True), ([0, 255], False), ([0, 1, 2, 3], False)],
)
def test_indices_of_greys_are_said(greys, is_said):
    picture = Image.fromarray(np.minimum(LABELS, len(greys) - 1).astype(np.uint8))
    picture.putpalette([value for grey in greys for value in (grey,) * 3])
    found, said = read(saved(picture, "PNG"))
    np.testing.assert_array_equal(found.values, np.minimum(LABELS, len(greys) - 1))
    assert any("indices of a palette of greys" in each for each in said) == is_said


def test_what_holds_an_array_is_that_array():
    class PixelData:  # mmsegmentation's
        data = torch.from_numpy(LABELS)[None]

    class Tensor(torch.Tensor):  # of another package
        pass

    for labels in (PixelData(), torch.from_numpy(LABELS).as_subclass(Tensor),
                   np.ma.array(LABELS)):  # fmt: skip
        np.testing.assert_array_equal(read(labels)[0].values, LABELS)


def test_size_is_told_before_labels_are_read(tmp_path):
    (tmp_path / "a.png").write_bytes(png(LABELS, 4))
    for labels in (LABELS, LABELS[None], Image.fromarray(LABELS.astype(np.uint8)),
                   tmp_path / "a.png", torch.from_numpy(LABELS)):  # fmt: skip
        assert labels_size_of(labels) == (3, 4)
    assert labels_size_of(tmp_path / "a.npy") is None
    assert labels_size_of({1: MASK}) is None


def test_labels_of_the_same_proportions_are_stretched_and_others_refused():
    notes = Notes()
    assert stretched(LABELS, (3, 4), notes) is LABELS
    assert notes.sentences == ()
    np.testing.assert_array_equal(
        stretched(LABELS, (6, 8), notes), LABELS.repeat(2, axis=0).repeat(2, axis=1)
    )
    assert notes.sentences == ("the label map of 4 x 3 is stretched to the photo's 8 x 6",)
    with pytest.raises(InvalidRequestError, match="got 4 x 3 for a photo of 8 x 3"):
        stretched(LABELS, (3, 8), notes)


def test_frames_that_are_masks_are_said_to_be_of_a_class_each():
    def of_frames(*arrays):
        first, *others = (Image.fromarray(array.astype(np.uint8)) for array in arrays)
        file = io.BytesIO()
        first.save(file, "TIFF", save_all=True, append_images=others)
        return file.getvalue()

    found, (said,) = read(of_frames(*(i == LABELS for i in range(4))))
    assert said.startswith("labels has 4 frames: the first is taken; if each is a mask of a class")
    np.testing.assert_array_equal(found.values, LABELS == 0)
    assert read(of_frames(LABELS, LABELS + 1))[1] == ("labels has 2 frames: the first is taken",)
