"""Colours of classes in coloured label maps: tables that people use, and files of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sam_refine.contract import InvalidRequestError
from sam_refine_client.arrays import AnyLabels
from sam_refine_client.decoding import decoding, json_of
from sam_refine_client.reading.mistaken import LARGEST_ID
from sam_refine_client.reading.notes import Notes

PaletteLike: TypeAlias = Any
"""The name of a built-in table, a file of one, (n, 3) uint8, or colours by class id."""

PALETTES: Final = ("ade20k", "camvid", "camvid11", "cityscapes", "voc")
"""The built-in tables, each a file in `palettes/` of the form that callers may give, too."""
VOID: Final = 255
"""The label of void in the tables, and of colours named so in a caller's."""
_VOID_NAME: Final = re.compile(r"void|unlabel+ed|ignore|out of roi", re.IGNORECASE)
_LISTS: Final = ("labels", "categories", "classes")
"""Where files of classes have them."""
_COLOUR_KEYS: Final = ("color", "colour", "rgb")
_NUMBER: Final = re.compile(r"-?\d+")
_CVAT: Final = re.compile(r"([^:]*):(\d+),(\d+),(\d+):[^:]*:[^:]*")
"""A line of CVAT's labelmap.txt: "car:128,0,0::"."""
_MOST_SHOWN: Final = 3
_FEWEST: Final = 3
"""Colours that a map needs for its table to be guessed."""


@dataclass(frozen=True)
class Palette:
    """Which label each colour stands for; a label may have several."""

    name: str
    colours: npt.NDArray[np.int64]
    """(n,) as red * 65536 + green * 256 + blue, in order."""
    labels: npt.NDArray[np.int32]
    """(n,)."""

    @classmethod
    def of_rows(cls, name: str, rows: list[tuple[int, tuple[int, int, int]]]) -> Palette:
        """Of labels and their colours; of a colour that comes twice the first counts."""
        by_colour: dict[int, int] = {}
        for label, (red, green, blue) in rows:
            if not all(0 <= each <= 255 for each in (red, green, blue)):
                raise InvalidRequestError(
                    f"palette must have colours of 0 to 255, got {(red, green, blue)} in {name}"
                )
            if not 0 <= label <= LARGEST_ID:
                raise InvalidRequestError(
                    f"palette must have labels of 0 to {LARGEST_ID}, or -1 for void, got {label} "
                    f"in {name}"
                )
            by_colour.setdefault(red << 16 | green << 8 | blue, label)
        if not by_colour:
            raise InvalidRequestError(f"palette must have colours, got none in {name}")
        colours = np.array(sorted(by_colour), np.int64)
        labels = np.array([by_colour[colour] for colour in colours.tolist()], np.int32)
        return cls(name, colours, labels)

    @property
    def has_void(self) -> bool:
        return bool((self.labels == VOID).any())

    def holds(self, colours: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of some colours it has."""
        return np.isin(colours, self.colours)

    def labels_of(self, colours: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """The labels of colours that it has."""
        found: npt.NDArray[np.int32] = self.labels[np.searchsorted(self.colours, colours)]
        return found


def read_palette(palette: PaletteLike) -> Palette:
    """A table by its name, from a file, or of colours by class id.

    Raises `InvalidRequestError` for anything else, `OSError` for a file that cannot be read.
    """
    if isinstance(palette, Palette):
        return palette
    if isinstance(palette, str) and palette.lower() in PALETTES:
        return _built_in(palette.lower())
    if isinstance(palette, str | PathLike):
        path = Path(palette)
        if isinstance(palette, str) and not path.exists():
            raise InvalidRequestError(
                f"palette must be one of {', '.join(PALETTES)}, or a file, got {palette!r:.80}"
            )
        return _of_file(path)
    if isinstance(palette, Mapping):
        return Palette.of_rows("palette", _rows_of_mapping(palette))
    array = np.asarray(palette)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iu":
        raise InvalidRequestError(
            f"palette must be (n, 3) integers, got {array.shape} {array.dtype}"
        )
    return Palette.of_rows("palette", [(i, _triple(row)) for i, row in enumerate(array.tolist())])


def labels_of_colours(
    name: str, pixels: npt.NDArray[np.uint8], palette: Palette | None, notes: Notes
) -> AnyLabels:
    """Labels (H, W) of a coloured map (H, W, 3). Without a palette the only one that fits is taken.

    Raises `InvalidRequestError` for a colour that is in no table.
    """
    packed = np.zeros(pixels.shape[:2], np.int64)
    for channel in range(3):
        packed = packed << 8 | pixels[..., channel]
    colours, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    if palette is None:
        palette = _guessed(name, colours, notes)
    known = palette.holds(colours)
    if not known.all():
        order = np.argsort(-counts[~known])[:_MOST_SHOWN]
        shown = ", ".join(map(_shown, colours[~known][order].tolist()))
        share = counts[~known].sum() / packed.size
        many = (
            "; so many colours are those of a JPEG, or of a map that was resized smoothly"
            if len(colours) > 4 * len(palette.colours) + 16
            else ""
        )
        if palette.holds(_reversed(colours)).all():
            many = f"; they are its colours as BGR, as OpenCV has them: {_AS_RGB}"
        raise InvalidRequestError(
            f"{name} must have the colours of {palette.name}, got {int((~known).sum())} others at "
            f"{share:.1%} of the pixels, such as {shown}{many}"
        )
    labels: AnyLabels = palette.labels_of(colours)[places].reshape(packed.shape)
    return labels


def note_other_order(
    name: str, used: npt.NDArray[np.int64], indices: AnyLabels, notes: Notes
) -> None:
    """Say where the colours of a PNG's palette are a table's, but its indices not their labels.

    `used` are the colours (n,) of the indices (n,) that are in use.
    """
    if len(used) < _FEWEST:
        return
    for each in map(_built_in, PALETTES):
        if each.holds(used).all() and not np.array_equal(each.labels_of(used), indices):
            notes.add(
                f"{name}: the indices of its palette are taken as labels, but its colours are "
                f"those of {each.name}, whose labels are others; if these are meant, give "
                f"palette={each.name}"
            )
            return


def _guessed(name: str, colours: npt.NDArray[np.int64], notes: Notes) -> Palette:
    fitting = [each for each in map(_built_in, PALETTES) if each.holds(colours).all()]
    rule = (
        f"{name} in colours need palette=, a file of colours and names or one of "
        f"{', '.join(PALETTES)}"
    )
    if len(fitting) != 1 or len(colours) < _FEWEST:
        names = " or ".join(each.name for each in fitting)
        other = _reversed(colours)
        turned = " or ".join(
            each.name for each in map(_built_in, PALETTES) if each.holds(other).all()
        )
        fit = f"; these {len(colours)} fit {names}"
        if not fitting and turned:
            fit = f"{fit}{turned} as BGR, as OpenCV has them: {_AS_RGB}"
        elif not fitting:
            fit = (
                f"; got {len(colours)} colours; if they are COCO's panoptic ids, convert them: "
                "panopticapi's panoptic2semantic_segmentation"
            )
        raise InvalidRequestError(f"{rule}{fit}")
    table = fitting[0]
    other = _reversed(colours)
    hint = ""
    if table.holds(other).all() and (table.labels_of(other) != table.labels_of(colours)).any():
        hint = f"; of OpenCV's BGR, which it has, too, {_AS_RGB}"
    notes.add(
        f"{name}: the colours are taken as those of {table.name}, the only table that has them; "
        f"say so by palette={table.name}{hint}"
    )
    return table


_AS_RGB: Final = "give labels[..., ::-1]"


def _reversed(colours: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Packed colours with red and blue exchanged."""
    return (colours & 255) << 16 | colours & 0xFF00 | colours >> 16


def _shown(colour: int) -> str:
    return f"({colour >> 16}, {colour >> 8 & 255}, {colour & 255})"


# --- Files -----------------------------------------------------------------------------------


@cache
def _built_in(name: str) -> Palette:
    path = Path(__file__).parent / "palettes" / f"{name}.txt"
    return Palette.of_rows(name, _rows_of_text(name, path.read_text(encoding="utf-8")))


def _of_file(path: Path) -> Palette:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        from sam_refine_client.reading.score_files import load_array

        return read_palette(load_array(path))
    if suffix == ".png":
        from sam_refine_client.reading.pixels import opened

        with opened(str(path), path) as picture:
            table = picture.getpalette("RGB")
        if table is None:
            raise InvalidRequestError(f"{path} must be a PNG with a palette, got none")
        return read_palette(np.array(table, np.uint8).reshape(-1, 3))
    with decoding(f"{path} must be a text file in UTF-8"):
        text = path.read_text(encoding="utf-8-sig")
    with decoding(f"{path} must have colours and their labels"):
        rows = _rows_of_json(path, text) if suffix == ".json" else _rows_of_text(str(path), text)
        return Palette.of_rows(str(path), rows)


def _rows_of_json(path: Path, text: str) -> list[tuple[int, tuple[int, int, int]]]:
    """Of a list of colours, or an object of them by label or by name; or of a list of classes.

    The latter have a colour and a name, and an id or not, as Mapillary's and COCO's files do.
    """
    content = json_of(str(path), text)
    if isinstance(content, Mapping):
        content = next((content[each] for each in _LISTS if each in content), content)
    if isinstance(content, list) and content and all(map(_is_class, content)):
        return _rows_of_classes(content)
    if isinstance(content, Mapping):
        return _rows_of_mapping(content)
    if isinstance(content, list):
        return [(index, _triple(row)) for index, row in enumerate(content)]
    raise InvalidRequestError(f"{path} must have a list or an object of colours")


def _is_class(row: Any) -> bool:
    return isinstance(row, Mapping) and any(each in row for each in _COLOUR_KEYS)


def _rows_of_classes(
    classes: list[Mapping[str, Any]],
) -> list[tuple[int, tuple[int, int, int]]]:
    has_ids = all(isinstance(each.get("id"), int) for each in classes)
    rows = []
    for index, each in enumerate(classes):
        label = _label(each["id"]) if has_ids else index
        if _VOID_NAME.match(str(each.get("name", ""))):
            label = VOID
        rows.append((label, _triple(next(each[key] for key in _COLOUR_KEYS if key in each))))
    return rows


def _rows_of_text(name: str, text: str) -> list[tuple[int, tuple[int, int, int]]]:
    """Lines of red, green, blue and a name in either order; of a label before them, if it has one.

    Commas or spaces between them, or as CVAT has it; a label is the number of its line where there
    is none, and 255 for -1 or a name such as "void". Lines that begin with # and a heading are left
    out.
    """
    rows: list[tuple[int, tuple[int, int, int]]] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if cvat := _CVAT.fullmatch(line.strip()):
            red, green, blue = (int(each) for each in cvat.groups()[1:])
            rows.append((VOID if _VOID_NAME.match(cvat[1]) else len(rows), (red, green, blue)))
            continue
        tokens = re.split(r"[,;\s]+", line.strip())
        numbers = [(i, int(token)) for i, token in enumerate(tokens) if _NUMBER.fullmatch(token)]
        words = " ".join(token for token in tokens if not _NUMBER.fullmatch(token))
        if not rows and len(numbers) < 3:
            continue  # a heading
        values = [value for _, value in numbers]
        if len(values) == 3:
            label, colour = len(rows), (values[0], values[1], values[2])
            if _VOID_NAME.match(words):
                label = VOID
        elif len(values) >= 4 and numbers[0][0] == 0:
            label, colour = _label(values[0]), (values[1], values[2], values[3])
        else:
            raise InvalidRequestError(
                f"{name} must have lines of red, green, blue and a name, got {line.strip()!r:.80}"
            )
        rows.append((label, colour))
    return rows


def _rows_of_mapping(
    given: Mapping[Any, Any],
) -> list[tuple[int, tuple[int, int, int]]]:
    """Of {label: colour}, or {name: colour} in the order of the labels."""
    rows = []
    for index, (key, colour) in enumerate(given.items()):
        if not isinstance(key, bool) and _NUMBER.fullmatch(str(key)):
            label = _label(int(key))
        else:
            label = VOID if _VOID_NAME.match(str(key)) else index
        rows.append((label, _triple(colour)))
    return rows


def _label(number: int) -> int:
    """A label as it is; -1 is void."""
    return VOID if number == -1 else number


def _triple(colour: Any) -> tuple[int, int, int]:
    if isinstance(colour, str) and re.fullmatch(r"#?[0-9a-fA-F]{6}", colour):
        red, green, blue = bytes.fromhex(colour.lstrip("#"))
        return red, green, blue
    try:
        red, green, blue = (int(each) for each in colour)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequestError(
            f"palette must have colours of red, green, blue, got {colour!r:.80}"
        ) from error
    return red, green, blue
