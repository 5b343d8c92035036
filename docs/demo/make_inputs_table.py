"""Write the tables of docs/inputs.md anew: each form is read, and the row says what came of it.

    python docs/demo/make_inputs_table.py

Each table stands between two comments, `<!-- table: NAME -->` and `<!-- end of table -->`. A test
fails where the page is out of date.
"""

from __future__ import annotations

import json
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from sam_refine_client import InvalidRequestError
from sam_refine_client.inputs.files import load_class_names
from sam_refine_client.reading.notes import Notes
from sam_refine_client.request import Request

PAGE = Path(__file__).parents[1] / "inputs.md"
_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

# --- Things of a scene of 40 x 60, with a square of class 1 on class 0 ------------------------

MASK = np.zeros((40, 60), bool)
MASK[10:30, 20:40] = True
LABELS = MASK.astype(np.uint8) + 2 * (np.arange(60) < 5).astype(np.uint8)
"""Of 0, 1 and 2."""
RGB = np.where(MASK[..., None], np.array([200, 60, 30]), np.array([20, 90, 160])).astype(np.uint8)
SHARES = np.where(MASK, 0.9, 0.2).astype(np.float32)[::4, ::4]
"""Of class 1, as a sigmoid gives them: (10, 15)."""
SCORES = np.stack([(1 - SHARES) * 0.6, SHARES, (1 - SHARES) * 0.4])
"""Of a softmax: (3, 10, 15)."""
RAW = np.log(SCORES) * 3
SOFT = np.clip(np.arange(60) * 12.0 - 240, 0, 255).round().astype(np.uint8) * np.ones_like(LABELS)
"""A mask whose edge is twenty pixels wide."""
CITYSCAPES = {0: (128, 64, 128), 1: (244, 35, 232), 2: (70, 70, 70)}

Form = tuple[str, Callable[[], object]]
"""What it is, and what reads it."""


def read(image: Any = RGB, logits: Any = None, labels: Any = None, **arguments: Any) -> Any:
    """The request that is made of inputs."""
    if logits is None and labels is None:
        logits = SCORES
    given = {
        "activation": None,
        "palette": None,
        "scores_dtype": "auto",
        "options": None,
        **arguments,
    }
    return Request.of(image, None, logits, labels, **given)


# --- Files -----------------------------------------------------------------------------------


def png(array: np.ndarray, bits: int = 8) -> bytes:
    """A PNG of (H, W) or (H, W, 2 to 4) at 1, 2, 4, 8 or 16 bits per channel."""
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]
    values = array.reshape(height, width * channels)
    if bits == 16:
        rows = values.astype(">u2").view(np.uint8).reshape(height, -1)
    elif bits == 8:
        rows = values.astype(np.uint8)
    else:
        places = 8 // bits
        padded = np.pad(values.astype(np.uint8), ((0, 0), (0, -values.shape[1] % places)))
        rows = np.zeros((height, padded.shape[1] // places), np.uint8)
        for place in range(places):
            rows |= padded[:, place::places] << (8 - bits * (place + 1))
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1).tobytes()
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def written(name: str, write: Callable[[Path], object]) -> str:
    """The name of a file in the working directory that was just written."""
    write(Path(name))
    return name


def picture(name: str, array: np.ndarray, mode: str | None = None, **options: Any) -> str:
    made = Image.fromarray(array)
    made = made if mode is None else made.convert(mode)
    return written(name, lambda path: made.save(path, **options))


def png_file(name: str, array: np.ndarray, bits: int) -> str:
    return written(name, lambda path: path.write_bytes(png(array, bits)))


def turned_photo(name: str, orientation: int) -> str:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return picture(name, RGB, exif=exif)


def palette_png(name: str, labels: np.ndarray, colours: list[tuple[int, int, int]]) -> str:
    made = Image.fromarray(labels)
    made.putpalette([value for colour in colours for value in colour])
    return written(name, lambda path: made.save(path))


def coloured(table: dict[int, tuple[int, int, int]] = CITYSCAPES) -> np.ndarray:
    pixels = np.zeros((*LABELS.shape, 3), np.uint8)
    for label, colour in table.items():
        pixels[label == LABELS] = colour
    return pixels


def coco_file(name: str, images: tuple[str, ...] = ("street.jpg",), **changes: Any) -> str:
    dataset = {
        "images": [
            {"id": number, "file_name": image, "height": 40, "width": 60}
            for number, image in enumerate(images)
        ],
        "categories": [{"id": 3, "name": "square"}],
        "annotations": [
            {
                "image_id": 0,
                "category_id": 3,
                "segmentation": [[20, 10, 40, 10, 40, 30, 20, 30]],
                "iscrowd": 0,
            }
        ],
        **changes,
    }
    return written(name, lambda path: path.write_text(json.dumps(dataset), encoding="utf-8"))


def text_file(name: str, text: str) -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def names(name: str, text: str) -> Notes:
    """What is said of a file of class names."""
    notes = Notes()
    load_class_names(text_file(name, text), notes)
    return notes


# --- The forms -------------------------------------------------------------------------------

_SIXTEEN = RGB.astype(np.uint16) * 257
_TWELVE = RGB.astype(np.uint16) * 16

IMAGES: list[Form] = [
    ("array (H, W, 3) uint8, RGB", lambda: read(RGB)),
    ("JPEG or PNG, as path or bytes", lambda: read(picture("photo.jpg", RGB))),
    ("WebP, TIFF, BMP", lambda: [read(picture(f"a.{e}", RGB)) for e in ("webp", "tif", "bmp")]),
    ("PIL image", lambda: read(Image.fromarray(RGB))),
    ("grey: (H, W), (H, W, 1), or a file", lambda: [read(RGB[..., 0]), read(RGB[..., :1])]),
    ("palette PNG", lambda: read(picture("photo.png", RGB, "P"))),
    ("RGBA, opaque", lambda: read(np.dstack([RGB, np.full(MASK.shape, 255, np.uint8)]))),
    ("RGBA, with transparent pixels", lambda: read(np.dstack([RGB, MASK.astype(np.uint8) * 255]))),
    ("CMYK JPEG", lambda: read(picture("photo.jpg", RGB, "CMYK"))),
    ("channels first (3, H, W), batch (1, 3, H, W)", lambda: [
        read(RGB.transpose(2, 0, 1)), read(RGB.transpose(2, 0, 1)[None])]),
    ("torch tensor, on any device", lambda: read(torch.from_numpy(RGB).permute(2, 0, 1) / 255)),
    ("floats in [0, 1]", lambda: read(RGB.astype(np.float32) / 255)),
    ("floats in [0, 255]", lambda: read(RGB.astype(np.float32))),
    ("floats a little above 1", lambda: read(RGB.astype(np.float32) / 150)),
    ("floats that were normalised", lambda: read((RGB / 255 - 0.45) / 0.23)),
    ("16-bit PNG or TIFF: RGB, RGBA, grey, grey with alpha", lambda: [
        read(png_file("a.png", each, 16)) for each in (_SIXTEEN, _SIXTEEN[..., 0])]),
    ("the same, of which fewer bits are in use", lambda: read(png_file("deep.png", _TWELVE, 16))),
    ("EXIF orientation", lambda: read(turned_photo("photo.jpg", 3))),
    ("EXIF orientation, and labels of the upright size", lambda: read(
        turned_photo("photo.jpg", 6), labels=np.rot90(LABELS))),
    ("EXIF orientation, and scores of the upright proportions", lambda: read(
        turned_photo("photo.jpg", 6), logits=np.rot90(SCORES, axes=(1, 2)))),
    ("a URL", lambda: read("https://images.example/street.jpg")),
    ("a batch of several", lambda: read(np.stack([RGB, RGB]))),
    ("a mask of bool", lambda: read(MASK)),
    ("HEIC, or AVIF that Pillow does not read", lambda: read(
        written("a.heic", lambda path: path.write_bytes(b"\0\0\0\x18ftypheic")))),
    ("something else", lambda: read(text_file("notes.jpg", "no picture"))),
]  # fmt: skip

SCORE_FORMS: list[Form] = [
    ("array (C, h, w) of floats that sum to 1", lambda: read(logits=SCORES)),
    ("torch tensor: on a GPU, bfloat16, with gradient", lambda: read(
        logits=torch.from_numpy(SCORES).bfloat16().requires_grad_())),
    ("batch axis (1, C, h, w)", lambda: read(logits=SCORES[None])),
    ("object or dict with `logits` (Hugging Face), dict with `out` (torchvision)", lambda: [
        read(logits=SimpleNamespace(logits=SCORES[None])), read(logits={"out": SCORES})]),
    ("raw output, with `activation`", lambda: read(logits=RAW, activation="softmax")),
    ("raw output or log-softmax, without it", lambda: read(logits=RAW)),
    ("scores whose sums are not 1", lambda: read(logits=SCORES * 4)),
    ("the same, with `activation=none`", lambda: read(logits=RAW, activation="none")),
    ("probabilities, and a softmax of them", lambda: read(logits=SCORES, activation="softmax")),
    ("-inf for classes switched off", lambda: read(
        logits=np.concatenate([RAW, np.full((1, 10, 15), -np.inf)]))),
    ("NaN", lambda: read(logits=np.full((2, 10, 15), np.nan))),
    ("one channel in [0, 1]: (1, h, w) or (h, w)", lambda: read(logits=SHARES[None])),
    ("one channel, raw", lambda: read(logits=np.log(SHARES / (1 - SHARES))[None])),
    ("one channel, raw, `activation=sigmoid`", lambda: read(
        logits=np.log(SHARES / (1 - SHARES))[None], activation="sigmoid")),
    ("one channel, `activation=softmax`", lambda: read(logits=RAW[:1], activation="softmax")),
    ("one channel of integers", lambda: read(logits=LABELS[None].astype(np.int64))),
    ("one channel of whole floats", lambda: read(logits=LABELS[None].astype(np.float32))),
    ("integers: shares times 255", lambda: read(logits=(SCORES * 255).astype(np.uint8))),
    ("one-hot, integers or bool", lambda: read(logits=np.stack([i == LABELS for i in range(3)]))),
    ("one-hot floats (C, H, W)", lambda: read(
        logits=np.stack([i == LABELS for i in range(3)]).astype(np.float32))),
    ("one place: (C,) of a classifier, as (C, 1, 1)", lambda: read(logits=SCORES[:, :1, :1])),
    ("channels last (h, w, C) that sum to 1", lambda: read(logits=SCORES.transpose(1, 2, 0))),
    ("channels last, raw, of other proportions else", lambda: read(
        logits=RAW.transpose(1, 2, 0), activation="softmax")),
    ("channels last, raw, where it may be either", lambda: read(
        logits=np.repeat(np.log(SCORES), 3, axis=0).transpose(1, 2, 0), activation="softmax")),
    ("height and width swapped", lambda: read(logits=RAW.transpose(0, 2, 1))),
    ("the same of an image that is nearly square", lambda: read(
        np.zeros((48, 50, 3), np.uint8), logits=np.stack([np.ones((25, 24)), np.zeros((25, 24))]))),
    ("other proportions than the image", lambda: read(logits=SCORES[:, :4])),
    ("shares times 255, floats", lambda: read(logits=SCORES * 255)),
    ("a softmax over another axis than the classes", lambda: read(
        logits=np.exp(RAW) / np.exp(RAW).sum(1, keepdims=True))),
    ("(C, h * w)", lambda: read(logits=SCORES.reshape(3, -1))),
    ("the same for all classes", lambda: read(logits=np.zeros_like(SCORES))),
    ("larger than the image", lambda: read(logits=np.repeat(np.repeat(SCORES, 8, 1), 8, 2))),
    ("a batch of several", lambda: read(logits=np.stack([SCORES, SCORES]))),
    ("(C, 1, h, w) that sum to 1, nnU-Net's of a plane", lambda: read(logits=SCORES[:, None])),
    ("(C, d, h, w), nnU-Net's of a volume", lambda: read(logits=np.stack([SCORES] * 4, 1))),
    ("queries: DETR, Mask2Former", lambda: [
        read(logits=SimpleNamespace(class_queries_logits=RAW)),
        read(logits=SimpleNamespace(logits=RAW, pred_masks=RAW))]),
    ("nothing in it", lambda: read(logits=SCORES[:, :0])),
    (".npy", lambda: read(logits=written("s.npy", lambda path: np.save(path, SCORES)))),
    (".npz of one array", lambda: read(logits=written("s.npz", lambda p: np.savez(p, SCORES)))),
    (".npz of several, one of them called `logits`, `scores`, `probabilities` or the like",
        lambda: read(logits=written("s.npz", lambda p: np.savez(p, logits=SCORES, step=3)))),
    (".npz of several others", lambda: read(
        logits=written("s.npz", lambda path: np.savez(path, a=SCORES, b=LABELS)))),
    (".pt, .pth of a tensor, or a dict with `logits`", lambda: [
        read(logits=written("s.pt", lambda path: torch.save(torch.from_numpy(SCORES), path))),
        read(logits=written("s.pth", lambda path: torch.save(
            {"logits": torch.from_numpy(SCORES), "step": 3}, path)))]),
    (".npy of objects", lambda: read(logits=written(
        "s.npy", lambda path: np.save(path, np.array([{}], object), allow_pickle=True)))),
    ("another kind of file", lambda: read(logits=written(
        "s.npy", lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1")))),
    ("a picture of scores", lambda: read(logits=written(
        "s.png", lambda path: Image.fromarray(LABELS).save(path)))),
]  # fmt: skip

LABEL_FORMS: list[Form] = [
    ("array (H, W) of integers, torch or numpy", lambda: read(labels=torch.from_numpy(LABELS))),
    ("with scores, too", lambda: read(logits=SCORES, labels=LABELS)),
    ("(1, H, W), (H, W, 1)", lambda: [read(labels=LABELS[None]), read(labels=LABELS[..., None])]),
    ("bool, or whole floats", lambda: [read(labels=MASK), read(labels=LABELS.astype(np.float32))]),
    ("floats with fractions", lambda: read(labels=SHARES)),
    ("what ToTensor makes of a label map", lambda: read(labels=LABELS[None] / 255)),
    ("mask with soft edges, shares times 255", lambda: read(labels=SOFT)),
    ("labels that were resized smoothly", lambda: read(labels=np.minimum(SOFT, 60))),
    ("trimap of 0, 128 and 255", lambda: read(labels=np.array([0, 255, 128], np.uint8)[LABELS])),
    ("mask of 0 and 255", lambda: read(labels=MASK.astype(np.uint8) * 255)),
    ("mask of 0 and 255, and scores of two classes", lambda: read(
        logits=SCORES[:2] / SCORES[:2].sum(0), labels=MASK.astype(np.uint8) * 255)),
    ("-1 for void", lambda: read(labels=np.where(LABELS == 2, -1, LABELS.astype(np.int64)))),
    ("255 beside other labels", lambda: read(labels=np.where(LABELS == 2, 255, LABELS))),
    ("255, `ignore_label=255`", lambda: read(
        labels=np.where(LABELS == 2, 255, LABELS), options={"ignore_label": 255})),
    ("other labels below 0", lambda: read(labels=LABELS.astype(np.int64) - 2)),
    ("labels beyond the scores", lambda: read(logits=SCORES, labels=LABELS.astype(np.int64) * 20)),
    ("labels that count from 1, beside their scores", lambda: read(
        logits=SCORES, labels=LABELS + 1)),
    ("the same, where the last class is not in the image", lambda: read(
        logits=SCORES, labels=MASK + 1)),
    ("PNG in grey of 1, 2, 4, 8 or 16 bits", lambda: [
        read(labels=png_file("l.png", np.minimum(LABELS, 2**bits - 1), bits))
        for bits in (1, 2, 4, 8, 16)]),
    ("what Pillow makes of a PNG of 4 bits", lambda: read(labels=LABELS * 17)),
    ("PNG with a palette", lambda: read(
        labels=palette_png("l.png", LABELS, [(0, 0, 0), (9, 9, 9), (7, 3, 1)]))),
    ("PNG with the palette of a known table in another order", lambda: read(
        labels=palette_png("l.png", LABELS, [CITYSCAPES[i] for i in (2, 1, 0)]))),
    ("three equal channels", lambda: read(labels=np.dstack([LABELS] * 3))),
    ("colours, with `palette`", lambda: read(labels=coloured(), palette="cityscapes")),
    ("colours of one known table", lambda: read(labels=coloured())),
    ("colours of none", lambda: read(labels=RGB)),
    ("ADE20K's full annotation, by its name", lambda: read(
        labels=picture("ADE_val_00000001_seg.png", RGB))),
    ("ADE20K's grey PNG, by its name", lambda: read(
        labels=picture("ADE_val_00000001.png", LABELS))),
    ("Cityscapes' instanceIds, by its name", lambda: read(
        labels=picture("a_gtFine_instanceIds.png", LABELS))),
    ("colours beside those of `palette`", lambda: read(labels=RGB, palette="voc")),
    ("JPEG", lambda: read(labels=picture("l.jpg", LABELS))),
    ("COCO .json of one image, or with its `file_name`", lambda: read(
        picture("street.jpg", RGB), labels=coco_file("coco.json", ("street.jpg", "b.jpg")))),
    ("COCO .json without the image", lambda: read(
        picture("yard.jpg", RGB), labels=coco_file("coco.json", ("street.jpg", "b.jpg")))),
    ("COCO's panoptic form", lambda: read(
        labels=coco_file("coco.json", annotations=[{"image_id": 0, "segments_info": []}]))),
    ("a mask for each class, by id", lambda: read(labels={1: MASK, 2: LABELS == 2})),
    ("a mask for each class, by name", lambda: read(labels={"square": MASK})),
    ("what Hugging Face's pipeline of image-segmentation returns", lambda: read(
        labels=[{"label": "square", "mask": Image.fromarray(MASK), "score": None}])),
    ("one-hot (C, H, W)", lambda: read(labels=np.stack([i == LABELS for i in range(3)]))),
    ("one-hot (H, W, C)", lambda: read(labels=np.dstack([i == LABELS for i in range(3)]) * 1)),
    ("masks (C, H, W) that leave pixels out", lambda: read(labels=np.stack([MASK, LABELS == 2]))),
    ("(W, H)", lambda: read(labels=LABELS.T)),
    ("another size than the image", lambda: read(labels=LABELS[::2, ::2])),
    ("instances of more than 256", lambda: read(labels=np.arange(2400).reshape(40, 60))),
]  # fmt: skip

NAME_FORMS: list[Form] = [
    ("text, a name on each line", lambda: names("n.txt", "sky\nroad\n")),
    ("the same, with ids from 0 before the names", lambda: names("n.txt", "0 sky\n1 road\n")),
    ("the same, with other numbers", lambda: names("n.txt", "1 sky\n2 road\n")),
    ("CSV or TSV with a heading: `name`, and `id` or the like", lambda: names(
        "n.csv", "id,name\n0,sky\n1,road\n")),
    ("CSV or TSV of ids and names", lambda: names("n.csv", "0,sky\n1,road\n")),
    ("CVAT's labelmap.txt", lambda: names("n.txt", "sky:0,0,255::\nroad:128,64,128::\n")),
    ("JSON list", lambda: names("n.json", '["sky", "road"]')),
    ("JSON {id: name}, as `id2label`", lambda: names("n.json", '{"0": "sky", "1": "road"}')),
    ("JSON {name: id}, as `label2id`", lambda: names("n.json", '{"sky": 0, "road": 1}')),
    ("Hugging Face's config.json", lambda: names(
        "config.json", '{"id2label": {"0": "sky"}, "model_type": "segformer"}')),
    ("COCO's categories", lambda: names(
        "n.json", '[{"id": 1, "name": "road"}, {"id": 3, "name": "car"}]')),
    ("ids that count from 1", lambda: names("n.json", '{"1": "sky", "2": "road"}')),
    ("YAML, such as YOLO's data.yaml", lambda: names("data.yaml", "names: [sky, road]\n")),
    ("an empty line between names", lambda: names("n.txt", "sky\n\nroad")),
    ("one line of many names", lambda: names("n.txt", "sky, road, car")),
    ("nothing in it", lambda: names("n.txt", "")),
    ("code or markup", lambda: names("classes.py", 'CLASSES = ["sky", "road"]\n')),
    ("other JSON", lambda: names("n.json", "[1, 2]")),
]  # fmt: skip

TABLES = {"images": IMAGES, "scores": SCORE_FORMS, "labels": LABEL_FORMS, "names": NAME_FORMS}

# --- What comes of them ----------------------------------------------------------------------


def outcome(form: Callable[[], object]) -> tuple[str, str]:
    """taken, warning or refused; and what is said."""
    try:
        result = form()
    except InvalidRequestError as error:
        return "refused", str(error)
    results = result if isinstance(result, list) else [result]
    notes = [each.notes if isinstance(each, Request) else each for each in results]
    said = [sentence for each in notes if isinstance(each, Notes) for sentence in each.sentences]
    return ("warning" if said else "taken"), "; ".join(dict.fromkeys(said))


@contextmanager
def scratch() -> Iterator[None]:
    """A working directory of its own, so that files go by their names."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            yield
        finally:
            os.chdir(before)


def tables() -> dict[str, str]:
    """Markdown of each table, by name."""
    made = {}
    with scratch():
        for name, forms in TABLES.items():
            rows = [("form", "", "what is said"), ("---",) * 3]
            for form, make in forms:
                what, said = outcome(make)
                rows.append((form, f"**{what}**" if what == "refused" else what, _cell(said)))
            made[name] = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return made


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def with_tables(page: str) -> str:
    """The page with all its tables made anew. Raises `KeyError` for a table of another name."""
    made = tables()
    return _TABLE.sub(lambda found: found[1] + made[found[2]] + found[3], page)


def main() -> None:
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
