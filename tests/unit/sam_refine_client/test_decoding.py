"""Files of strangers are read, or refused as invalid: no error of a decoder is anything else."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save as safetensors_of

from sam_refine.contract import InvalidRequestError
from sam_refine_client.decoding import decoding
from sam_refine_client.embedding import Embedding
from sam_refine_client.inputs.files import load_class_names, load_options
from sam_refine_client.inputs.huggingface import image_lists
from sam_refine_client.reading import score_files
from sam_refine_client.reading.images import rgb_of
from sam_refine_client.reading.labels import read_labels
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.palettes import read_palette
from sam_refine_client.reading.scores import read_scores

SIZE = 6, 8
LABELS = np.arange(48).reshape(SIZE).astype(np.uint8) // 16
RGB = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
SCORES = np.full((3, *SIZE), 1 / 3, np.float32)
SQUARE = {"category_id": 1, "image_id": 1, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]}
COCO = {"images": [{"id": 1, "file_name": "a.jpg", "height": 6, "width": 8}],
        "categories": [{"id": 1, "name": "square"}], "annotations": [SQUARE]}  # fmt: skip


def content_of(write, *arguments, **options):
    file = io.BytesIO()
    write(file, *arguments, **options)
    return file.getvalue()


def picture(array, kind, **options):
    return content_of(Image.fromarray(array).save, kind, **options)


FILES = {
    "rgb.png": picture(RGB, "PNG"),
    "labels.png": picture(LABELS, "PNG"),
    "deep.png": picture(LABELS.astype(np.uint16) * 300, "PNG"),
    "photo.jpg": picture(RGB, "JPEG"),
    "photo.webp": picture(RGB, "WEBP"),
    "labels.gif": picture(LABELS, "GIF"),
    "labels.bmp": picture(LABELS, "BMP"),
    "plain.tif": picture(LABELS, "TIFF"),
    "packed.tif": picture(RGB, "TIFF", compression="tiff_lzw"),
    "scores.npy": content_of(np.save, SCORES),
    "scores.npz": content_of(np.savez_compressed, SCORES),
    "scores.pt": content_of(lambda file: torch.save(torch.from_numpy(SCORES), file)),
    "scores.safetensors": safetensors_of({"logits": SCORES}),
    "coco.json": json.dumps(COCO).encode(),
    "names.yaml": b"names:\n  0: sky\n  1: road\nday: 2020-01-01\n",
    "names.csv": b"id,name\n0,sky\n1,road\n",
    "metadata.jsonl": b'{"file_name": "a.jpg"}\n',
    "palette.txt": b"128 64 128 road\n0 0 0 void\n",
}
"""A small file of each form, as it should be."""


READERS = {
    "image": rgb_of,
    "labels": lambda path: read_labels(path, Notes(), size_hw=SIZE, image_name="a.jpg"),
    "scores": lambda path: read_scores(path, Notes(), size_hw=SIZE),
    "names": lambda path: load_class_names(path, Notes()),
    "list": lambda path: image_lists(path.parent),
    "options": load_options,
    "palette": read_palette,
    "embedding": Embedding.load,
}


def taken_as(path):
    """What a file is taken as, given for each thing that files are read for."""
    taken = set()
    for what, read in READERS.items():
        try:
            read(path)
        except (InvalidRequestError, OSError):
            continue
        taken.add(what)
    return taken


def damaged(content, chance):
    """Bytes with some changed, cut or added; the checksums of a PNG are made to fit."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 2, 4, 8))):
        at = chance.randrange(min(len(changed), chance.choice((64, 10_000))))
        match chance.randrange(4):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                changed[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f999"))
            case 2:
                changed[at:at] = chance.randbytes(3)
            case 3:
                del changed[at : at + chance.randrange(1, 9)]
    return with_checksums(bytes(changed)) if content.startswith(b"\x89PNG") else bytes(changed)


def with_checksums(content):
    fitting, at = bytearray(content), 8
    while at + 12 <= len(fitting):
        end = at + 8 + int.from_bytes(fitting[at : at + 4], "big")
        fitting[end : end + 4] = struct.pack(">I", zlib.crc32(fitting[at + 4 : end]))
        at = end + 4
    return bytes(fitting)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore")
def test_damaged_file_is_read_or_refused(tmp_path, name):
    path, chance = tmp_path / name, random.Random(name)
    path.write_bytes(FILES[name])
    assert taken_as(path)
    for _ in range(12):
        path.write_bytes(damaged(FILES[name], chance))
        taken_as(path)


def within_itself():
    content = {}
    content["logits"] = content
    return content_of(lambda file: torch.save(content, file))


def coco_with(**changes):
    return json.dumps({**COCO, **changes}).encode()


ABSURD = {
    "nested JSON": ("a.json", b"[" * 100_000, "labels"),
    "nested YAML": ("a.yaml", b"[" * 500, "names"),
    "a nested line": ("metadata.jsonl", b"[" * 100_000, "list"),
    "a number without end": ("a.yaml", b"names: [" + b"9" * 5000 + b"]", "names"),
    "a day that is none": ("a.yaml", b"when: 2020-13-45", "names"),
    "an id without end": ("a.txt", b"9" * 5000 + b" sky\n", "names"),
    "a palette's label without end": ("a.txt", b"0 1 2 3 road\n99999999999 1 2 4 sky\n", "palette"),
    "the same in JSON": ("a.json", b'{"99999999999": [1, 2, 3]}', "palette"),
    "an infinite colour": ("a.json", b"[[1e400, 0, 0]]", "palette"),
    "a number for categories": ("a.json", coco_with(categories=5), "labels"),
    "numbers in categories": ("a.json", coco_with(categories=[5]), "labels"),
    "an image without end": (
        "a.json",
        coco_with(images=[{"id": 1, "height": 9**9, "width": 9**9}]),
        "labels",
    ),
    "a category without end": (
        "a.json",
        coco_with(annotations=[{**SQUARE, "category_id": 2**40}]),
        "labels",
    ),
    "half a point": (
        "a.json",
        coco_with(annotations=[{**SQUARE, "segmentation": [[1, 2, 3]]}]),
        "labels",
    ),
    "lists for ids": (
        "a.json",
        json.dumps([{**SQUARE, "image_id": [i]} for i in (1, 2)]).encode(),
        "labels",
    ),
    "a dict within itself": ("a.pt", within_itself(), "scores"),
    "an array without end": (
        "a.npy",
        FILES["scores.npy"].replace(b"(3, 6, 8)", b"(9%s,)" % (b"9" * 14)),
        "scores",
    ),
}


@pytest.mark.parametrize("what", ABSURD)
def test_file_that_is_absurd_is_refused(tmp_path, what):
    name, content, reader = ABSURD[what]
    (tmp_path / name).write_bytes(content)
    assert reader not in taken_as(tmp_path / name)


def test_name_of_yaml_that_no_text_could_hold_is_refused(tmp_path):
    """Each of thirty lists has the one before it twice: as text 2**30 times the first."""
    lists = "".join(
        f"{'l' * i}: &{'l' * i} [*{'l' * (i - 1)}, *{'l' * (i - 1)}]\n" for i in range(2, 31)
    )
    text = f"l: &l [x]\n{lists}names: [{{id: 0, name: *{'l' * 30}}}]\n"
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InvalidRequestError, match="must have a list of names"):
        load_class_names(tmp_path / "a.yaml", Notes())


def test_opened_picture_that_turns_out_damaged_is_refused():
    """Of a PNG whose second piece of pixels has no name Pillow says SyntaxError."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    content = content_of(Image.fromarray(pixels).save, "PNG")
    at, end = content.index(b"IDAT") + 4, content.index(b"IEND") - 8
    pieces = content[: at - 8], b"IDAT" + content[at : at + 200], bytes(4) + content[at + 200 : end]
    cut = [struct.pack(">I", len(each) - 4) + each + bytes(4) for each in pieces[1:]]
    damaged_png = with_checksums(b"".join([pieces[0], *cut, content[end + 4 :]]))
    for read in (rgb_of, READERS["labels"]):
        with pytest.raises(InvalidRequestError, match="broken PNG file"):
            read(Image.open(io.BytesIO(damaged_png)))


def test_tensor_that_a_zip_unpacks_to_far_more_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(score_files, "_SMALL_BYTES", 1000)
    with (
        zipfile.ZipFile(
            io.BytesIO(content_of(lambda f: torch.save(torch.zeros(9000), f)))
        ) as saved,
        zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for each in saved.infolist():
            packed.writestr(each.filename, saved.read(each))
    with pytest.raises(InvalidRequestError, match="must not unpack to so much"):
        read_scores(tmp_path / "a.pt", Notes(), size_hw=SIZE)


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("deep"), struct.error("\n short")])
def test_what_a_decoder_raises_is_said_in_one_line(error):
    said = {"MemoryError": "MemoryError", "RecursionError": "deep", "error": "short"}
    with pytest.raises(InvalidRequestError) as caught, decoding("a.png must be whole", "; go"):
        raise error
    assert str(caught.value) == f"a.png must be whole: {said[type(error).__name__]}; go"
    assert caught.value.__cause__ is error


def test_file_that_cannot_be_read_stays_an_os_error():
    with pytest.raises(PermissionError), decoding("a.png must be whole"):
        raise PermissionError
