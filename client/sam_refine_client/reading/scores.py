"""Class scores of anything that a network returned, as (C, h, w) of numbers that are finite."""

from __future__ import annotations

import math
from enum import Enum
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from sam_refine.contract import InvalidRequestError, choice
from sam_refine_client.reading.arrays import (
    OF_QUERIES,
    AnyArray,
    ArrayLike,
    check_filled,
    numpy_of,
    unwrapped,
    without_batch,
)
from sam_refine_client.reading.mistaken import check_path, masks_axis
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.score_files import load_array

Scores: TypeAlias = npt.NDArray[np.floating[Any]]


class Activation(str, Enum):
    """Turns a network's raw output into scores, place by place, over the classes."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    NONE = "none"
    """They are scores already, whatever they look like: no warning."""


_SAMPLED: Final = 256
"""Places along each axis that are looked at, where a guess is all that is wanted."""
_SUM_IS_OFF: Final = 0.05
"""How far from 1 the scores of a place may sum up: those of half precision, of many classes."""
_WHOLES: Final = (100, 255, 1000, 10000, 65535)
"""What shares are multiplied by: per cent, bytes and the like."""
_FEW: Final = 0.01
"""The share of places that may be off, all the same."""
_LARGEST: Final = float(np.finfo(np.float32).max)
_FITS: Final = math.log(1.1)
"""Proportions that differ by less than this are the image's."""
_CLOSE: Final = math.log(1.05)
"""Proportions that differ by less than this are the image's, however few the scores."""
_OTHER: Final = math.log(1.5)
"""Proportions that differ by more than this are hardly the image's."""
_PADDING: Final = 64
"""Pixels: networks pad a side by fewer, to a multiple of `_PADDED_TO` at least."""
_PADDED_TO: Final = 8
_CORNER: Final = 64
"""Places along each axis of the part whose changes are looked at."""
_ROUGHER: Final = 4
"""How many times as much scores change from class to class than from place to place."""


def read_scores(
    logits: ArrayLike,
    notes: Notes,
    *,
    size_hw: tuple[int, int],
    activation: Activation | str | None = None,
    name: str = "logits",
) -> Scores:
    """Class scores (C, h, w), C at least 2 and (h, w) at most the image's `size_hw`.

    `logits` are an array of any library, an object or a dict that has one as `.logits`, or a file
    as `load_array` reads it; with an axis of 1 before them or not. `activation` makes scores of raw
    output. One channel of shares p becomes the two classes (1 - p, p). Raises
    `InvalidRequestError`, and `OSError` for a file that cannot be read.
    """
    if activation is not None:
        rule = "one of softmax, sigmoid, none"
        activation = choice("activation", activation, Activation, rule)
    logits = loaded_scores(logits, name)
    array = numpy_of(name, unwrapped(name, logits))
    check_filled(name, array)
    _check_floats(name, array)
    array = _without_slices(name, array, notes)
    given = name + "[0]" * (array.ndim - 3)
    array = without_batch(name, array, 3)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise InvalidRequestError(
            f"{name} must have shape (C, h, w), got {array.shape}; if they are labels, give them "
            "as labels"
        )
    scores: Scores = _classes_first(name, given, array, size_hw, notes)
    scores = _activated(name, scores, activation, notes)
    _check_finite(name, scores, activation)
    if len(scores) == 1:
        _check_not_queries(name, scores, size_hw)
        scores = _both_of_one(name, scores, notes)
    elif activation is None:
        _note_raw(name, scores, notes)
    _note_of_no_map(name, scores, size_hw, notes)
    return _shrunk(name, given, scores, size_hw, notes)


def loaded_scores(logits: ArrayLike, name: str = "logits") -> ArrayLike:
    """The array of a file; anything else as it is. Raises as `read_scores` does."""
    if isinstance(logits, str | PathLike):
        check_path(name, fspath(logits))
        return load_array(Path(logits))
    return logits


def scores_size_of(logits: ArrayLike) -> tuple[int, int] | None:
    """(h, w) of class scores (C, h, w) before they are read, if that is easily told."""
    if logits is None:
        return None
    shape = tuple(getattr(unwrapped("logits", logits), "shape", ()))
    while len(shape) > 3 and shape[0] == 1:
        shape = shape[1:]
    is_map = len(shape) == 3 and shape[0] < min(shape[1:]) and shape[2] > _FEWEST_PLACES
    return (int(shape[1]), int(shape[2])) if is_map else None


_FEWEST_PLACES: Final = 4


def is_of_turned(scores_hw: tuple[int, int], image_hw: tuple[int, int]) -> bool:
    """Whether scores are hardly of an image (H, W), but may be of it turned by a quarter."""
    return _misfit(scores_hw, image_hw) > _OTHER and _misfit(scores_hw, image_hw[::-1]) < _FITS


def _check_floats(name: str, array: AnyArray) -> None:
    """Raise `InvalidRequestError` for numbers that are labels, or shares times 255."""
    if array.dtype.kind == "f":
        is_wide = array.dtype.itemsize > 4
        if is_wide and np.abs(array).max(where=np.isfinite(array), initial=0) > _LARGEST:
            raise InvalidRequestError(
                f"{name} must fit float32, got values beyond {_LARGEST:.3g}; where are they from?"
            )
        return
    if array.dtype.kind not in "biu":
        raise InvalidRequestError(f"{name} must be an array of numbers, got {array.dtype}")
    planes = array.reshape(1, 1) if array.ndim < 2 else array
    has_one_plane = math.prod(planes.shape[:-2]) == 1
    if has_one_plane:
        raise InvalidRequestError(
            f"{name} must be class scores, got one plane of {array.dtype}, {array.shape}: these "
            "are labels; give it as labels"
        )
    if array.dtype == np.bool_ or int(array.max()) <= 1:
        axis, _ = masks_axis(planes.reshape(-1, *planes.shape[-2:])) or (0, False)
        raise InvalidRequestError(
            f"{name} must be class scores, got {array.dtype} of 0 and 1, one mask for each class; "
            f"give labels={name}.argmax({'-1' if axis else len(planes.shape) - 3}), or "
            f"{name}.astype(np.float32)"
        )
    low, high = int(array.min()), int(array.max())
    whole = _whole_of_shares(array.reshape(-1, *planes.shape[-2:]))
    if whole is None and low >= 0:
        whole = 255 if high <= 255 else 65535 if array.dtype == np.uint16 else None
    advice = f"give {name}.astype(np.float32){'' if whole is None else f' / {whole}'}"
    if low < 0:
        advice += ", times its scale if it is quantised"
    raise InvalidRequestError(
        f"{name} must be class scores of floats, got {array.dtype} of {low} to {high}; {advice}"
    )


def _whole_of_shares(array: AnyArray) -> int | None:
    """What values (C, h, w) sum to over the classes, where they are shares of a usual whole."""
    part = _sample(array)
    sums, high = part.sum(0), float(part.max())
    if part.min() < 0:
        return None
    for whole in _WHOLES:
        is_near = np.abs(sums - whole) <= max(_SUM_IS_OFF * whole, len(array) / 2)
        if high <= whole * (1 + _SUM_IS_OFF) and np.mean(~is_near) <= _FEW:
            return whole
    return None


def _without_slices(name: str, array: AnyArray, notes: Notes) -> AnyArray:
    """(C, h, w) of (C, 1, h, w), as nnU-Net saves a plane, or (C, h, w, 1); else as it is.

    Raises `InvalidRequestError` for a volume (C, d, h, w), and where axis 0 may be a batch.
    """
    if array.ndim != 4 or array.shape[0] == 1:
        return array
    if array.shape[3] == 1 and min(array.shape[1:3]) > 1 and _sums_are_one(array[..., 0], 0):
        return array[..., 0]
    has_classes_first = _sums_are_one(array.reshape(*array.shape[:2], -1), 0)
    has_one, depth = array.shape[1] == 1, array.shape[1]
    if has_classes_first and has_one:
        return array[:, 0]
    if has_classes_first and not _sums_are_one(array.reshape(*array.shape[:2], -1), 1):
        raise InvalidRequestError(
            f"{name} must be of one image, got a volume of {depth} slices, {array.shape}, as "
            f"nnU-Net saves it; give each its own call: {name}[:, i]"
        )
    if has_one:
        raise InvalidRequestError(
            f"{name} must be of one image, got {array.shape}; if these are {len(array)} classes, "
            f"as nnU-Net saves them, give {name}[:, 0]; if images, each its own call: {name}[i]"
        )
    return array


# --- Which axis is which ---------------------------------------------------------------------


def _classes_first(
    name: str, given: str, array: AnyArray, size_hw: tuple[int, int], notes: Notes
) -> AnyArray:
    """(C, h, w) of it or of (h, w, C), by sums over the classes and by the image's proportions.

    `given` is what the array is in what the caller gave, such as the first of a batch of one.
    """
    first, middle, last = array.shape
    as_given, as_last = _misfit((middle, last), size_hw), _misfit((first, middle), size_hw)
    is_last_by_sums = _sums_are_one(array, 2) and not _sums_are_one(array, 0)
    classes_axis = 2 if is_last_by_sums else 0 if _sums_are_one(array, 0) else _roughest(array)
    is_other = as_given > _OTHER
    transposed = f"{given}.transpose(2, 0, 1)"
    if is_last_by_sums and (as_last < _OTHER or (first > 1 and as_last <= as_given)):
        notes.add(
            f"{name} {array.shape} are taken as (h, w, C), because they sum to 1 over the last "
            f"axis; give {transposed}"
        )
        _check_upright(name, given, (first, middle), size_hw, (2, 1, 0), array.shape, notes)
        _note_stretched(name, given, (first, middle), size_hw, notes)
        return array.transpose(2, 0, 1)
    wrong = [axis for axis in (1, 2) if first > 1 and _sums_are_one(array, axis)]
    if wrong and not _sums_are_one(array, 0):
        raise InvalidRequestError(
            f"{name} {array.shape} must be (C, h, w), but sum to 1 over axis {wrong[0]}, which is "
            "no axis of classes: was a softmax taken over the wrong one? it is softmax(dim=0) of "
            "(C, h, w), softmax(dim=1) of a batch"
        )
    if is_other and as_last < _FITS and classes_axis != 0 and (first > 1 or last == 1):
        if last == 1 or classes_axis == 2 or as_given > 2 * _OTHER:
            notes.add(
                f"{name} {array.shape} are taken as (h, w, C), because only so they have the "
                f"proportions of the image, {size_hw}; give {transposed}"
            )
            return array.transpose(2, 0, 1)
        raise InvalidRequestError(
            f"{name} must have shape (C, h, w) like the image of {size_hw}, got {array.shape}, "
            f"which is like (h, w, C); give {transposed}"
        )
    _check_upright(name, given, (middle, last), size_hw, (0, 2, 1), array.shape, notes)
    if classes_axis == 2:
        notes.add(
            f"{name} {array.shape} are taken as (C, h, w), but change more along the last axis "
            f"than along the first, as (h, w, C) would; if they are that, give {transposed}"
        )
    elif as_given > _FITS and _apart((first, middle), size_hw) < _CLOSE:
        notes.add(
            f"{name} {array.shape} are taken as (C, h, w), stretched to the image of {size_hw}, "
            f"but would have its proportions as (h, w, C); if they are that, give {transposed}"
        )
    else:
        _note_stretched(name, given, (middle, last), size_hw, notes)
    return array


def _note_stretched(
    name: str, given: str, scores_hw: tuple[int, int], size_hw: tuple[int, int], notes: Notes
) -> None:
    """Say where scores have other proportions than the image, and how padding would be cut."""
    if _misfit(scores_hw, size_hw) <= _FITS:
        return
    (h, w), (height, width) = scores_hw, size_hw
    scale = min(h / height, w / width)
    cut = f"[:, :{math.ceil(height * scale)}, :{math.ceil(width * scale)}]"
    hint = ""
    if not _is_padded(scores_hw, size_hw):  # which `_shrunk` says
        hint = (
            f" if the network saw it padded below or on the right, give {given}{cut} of (C, h, w)"
        )
    notes.add(
        f"{name} of {h} x {w} have other proportions than the image of {size_hw}: they are "
        f"stretched to it; are they of this image, and (C, h, w)?{hint}"
    )


def _check_upright(
    name: str,
    given: str,
    scores_hw: tuple[int, int],
    size_hw: tuple[int, int],
    axes: tuple[int, int, int],
    shape: tuple[int, ...],
    notes: Notes,
) -> None:
    """Raise `InvalidRequestError` for scores of (w, h), or say so where that may be chance.

    `axes` are those that would set the array, which has this `shape`, upright.
    """
    off, swapped_off = _misfit(scores_hw, size_hw), _misfit(scores_hw[::-1], size_hw)
    fits_swapped = swapped_off == 0 and _apart(scores_hw[::-1], size_hw) < _CLOSE
    is_swapped = off > _OTHER and swapped_off < _FITS
    is_swapped |= fits_swapped and off > _FITS
    is_swapped |= scores_hw == size_hw[::-1] != size_hw
    like = "(C, w, h)" if axes == (0, 2, 1) else "(w, h, C)"
    if is_swapped:
        raise InvalidRequestError(
            f"{name} must have shape (C, h, w) like the image of {size_hw}, got {shape}, "
            f"which is like {like}; give {given}.transpose{axes}"
        )
    if fits_swapped and off > 0:
        notes.add(
            f"{name} {shape} are stretched to the image of {size_hw}, but would have its "
            f"proportions as {like}; if they are that, give {given}.transpose{axes}"
        )


def _misfit(scores_hw: tuple[int, int], image_hw: tuple[int, int]) -> float:
    """How far proportions differ, as a logarithm, beyond what a row or column explains."""
    h, w = scores_hw
    return max(0.0, _apart(scores_hw, image_hw) - math.log1p(1 / h) - math.log1p(1 / w))


def _apart(scores_hw: tuple[int, int], image_hw: tuple[int, int]) -> float:
    (h, w), (height, width) = scores_hw, image_hw
    return abs(math.log((h * width) / (w * height)))


def _sample(array: AnyArray) -> npt.NDArray[np.float32]:
    """Some of the values, evenly spread along the last two axes."""
    steps = [max(1, side // _SAMPLED) for side in array.shape[1:]]
    return np.asarray(array[:, :: steps[0], :: steps[1]], np.float32)


def _sums_are_one(array: AnyArray, axis: int) -> bool:
    """Whether values in [0, 1] sum to 1 along an axis of more than one."""
    if array.shape[axis] < 2:
        return False
    others = [each for each in range(3) if each != axis]
    steps = [max(1, array.shape[each] // _SAMPLED) for each in others]
    index: list[Any] = [slice(None)] * 3
    index[others[0]], index[others[1]] = slice(None, None, steps[0]), slice(None, None, steps[1])
    part = np.asarray(array[tuple(index)], np.float32)
    if not (part.min() >= 0 and part.max() <= 1 + _SUM_IS_OFF):
        return False
    return bool(np.mean(np.abs(part.sum(axis) - 1) > _SUM_IS_OFF) <= _FEW)


def _roughest(array: AnyArray) -> int | None:
    """Along which axis, the first or the last, values change far more: that is the classes'."""
    if min(array.shape[1:]) < 4 or array.shape[0] < 2:
        return None
    part = np.asarray(array[:_CORNER, :_CORNER, :_CORNER], np.float32)
    if not np.isfinite(part).all():
        return None
    first, last = (float(np.abs(np.diff(part, axis=axis)).mean()) for axis in (0, 2))
    return 2 if last > _ROUGHER * first else 0 if first > _ROUGHER * last else None


# --- From raw output to scores ---------------------------------------------------------------


def _activated(name: str, scores: Scores, activation: Activation | None, notes: Notes) -> Scores:
    if activation is None or activation is Activation.NONE:
        return scores
    if activation is Activation.SOFTMAX and len(scores) == 1:
        raise InvalidRequestError(
            f"a softmax of one channel is 1 everywhere, got {name} {scores.shape}; for a binary "
            "head give activation=sigmoid"
        )
    if activation is Activation.SOFTMAX and _sums_are_one(scores, 0):
        notes.add(
            f"{name} sum to 1 over the classes already, and activation=softmax makes all scores "
            "nearly equal; leave activation out"
        )
    elif scores.min() >= 0 and scores.max() <= 1:
        notes.add(
            f"{name} lie in [0, 1] already, as after a sigmoid, and activation={activation.value} "
            "makes all scores nearly equal; leave activation out, or give none"
        )
    elif activation is Activation.SIGMOID and _are_logarithms(scores):
        notes.add(
            f"{name} are logarithms of a softmax, of which a sigmoid makes no scores that sum to "
            "1; give activation=softmax"
        )
    scores = scores.astype(np.float32)  # a copy
    if activation is Activation.SIGMOID:
        np.exp(-np.clip(scores, -88, None), out=scores)
        scores += 1
        np.reciprocal(scores, out=scores)
        return scores
    with np.errstate(invalid="ignore"):  # where all classes are -inf; found later
        scores -= scores.max(axis=0)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=0)
    return scores


def _are_logarithms(scores: Scores) -> bool:
    """Whether they are what log-softmax gives."""
    if len(scores) < 2 or scores.max() > _SUM_IS_OFF:
        return False
    return _sums_are_one(np.exp(_sample(scores)), 0)


def _check_finite(name: str, scores: Scores, activation: Activation | None) -> None:
    low, high = float(scores.min()), float(scores.max())
    if math.isfinite(low) and math.isfinite(high):
        return
    wrong = scores.size - int(np.isfinite(scores).sum())
    is_masked = low == -math.inf and math.isfinite(high) and activation is None
    advice = (
        "give activation=softmax, which makes 0 of -inf"
        if is_masked
        else "where do they come from? np.isfinite finds the places"
    )
    raise InvalidRequestError(
        f"{name} must be finite, got {wrong} values that are NaN or infinite; {advice}"
    )


def _check_not_queries(name: str, scores: Scores, size_hw: tuple[int, int]) -> None:
    """Raise `InvalidRequestError` for one plane that has neither proportions nor size of a map."""
    _, height, width = scores.shape
    misfit = _misfit((height, width), size_hw)
    if misfit > 2 * _OTHER or (misfit > _OTHER and width < _CORNER):
        raise InvalidRequestError(
            f"{name} must be class scores (C, h, w), got one plane, ({height}, {width}), unlike "
            f"the image of {size_hw}; if h and w are one axis, give {name}.reshape(C, h, w), or of "
            f"(h * w, C) {name}.T.reshape(C, h, w); if these are a network's queries and classes, "
            f"{OF_QUERIES}"
        )


def _both_of_one(name: str, scores: Scores, notes: Notes) -> Scores:
    """The two classes of one channel of shares."""
    low, high = float(scores.min()), float(scores.max())
    if low < 0 or high > 1 + 1e-3:
        part = _sample(scores)
        if high > 1 and np.array_equal(part, np.rint(part)):
            raise InvalidRequestError(
                f"{name} must be class scores, got one channel of whole numbers up to {high:g}: "
                f"these are labels; give labels={name}.astype(int)"
            )
        is_scaled = low >= 0 and 100 <= high <= 255
        advice = f"shares times 255 need {name} / 255; " if is_scaled else ""
        raise InvalidRequestError(
            f"{name} of one channel must be in [0, 1], got {low:g} to {high:g}; {advice}raw output "
            "of a binary head needs activation=sigmoid"
        )
    notes.add(
        f"{name} of one channel are taken as shares p of class 1: the scores are (1 - p, p); if "
        "they are something else, give (C, h, w)"
    )
    shares = np.clip(scores.astype(np.float32), 0, 1)
    return np.concatenate([1 - shares, shares])


def _note_raw(name: str, scores: Scores, notes: Notes) -> None:
    """Say where scores look like raw output: below 0, or sums far from 1."""
    low, high = float(scores.min()), float(scores.max())
    if low < 0:
        advice = "give activation=softmax (or sigmoid), or none if they are scores"
        if _are_logarithms(scores):
            advice = "give activation=softmax, of which they are the logarithms"
        notes.add(
            f"{name} look like raw output, because they go from {low:.3g} to {high:.3g}: {advice}"
        )
        return
    sums = _sample(scores).sum(axis=0)
    if np.mean(np.abs(sums - 1) > _SUM_IS_OFF) <= _FEW:
        return
    if (whole := _whole_of_shares(scores)) is not None:
        notes.add(
            f"{name} sum to {whole} over the classes, as shares times {whole} do: give {name} / "
            f"{whole}; or activation=softmax (or sigmoid) for raw output"
        )
        return
    ends = f"{float(sums.min()):.3g}", f"{float(sums.max()):.3g}"
    found = f"they sum to {' to '.join(dict.fromkeys(ends))} over the classes"
    kind = "raw output" if high > 1 + 1e-3 else "no probabilities of a softmax"
    notes.add(
        f"{name} look like {kind}, because {found}: give activation=softmax (or sigmoid) for raw "
        "output, or none if they are scores"
    )


def _note_of_no_map(name: str, scores: Scores, size_hw: tuple[int, int], notes: Notes) -> None:
    """Say where nothing can be refined: scores of one place, or one-hot ones of each pixel."""
    height, width = scores.shape[1:]
    if height == width == 1 < max(size_hw):
        notes.add(
            f"{name} have one place, {scores.shape}: all of the coarse map is one class; are they "
            "of a network that classifies images? give (C, h, w) of one that segments"
        )
    elif height >= size_hw[0] and width >= size_hw[1] and _are_one_hot(scores):
        notes.add(
            f"{name} are one-hot: no class can win a pixel where its score is 0, and nothing "
            f"changes; give labels instead, {name}.argmax of the classes, of which soft scores are "
            "made, or the network's own scores"
        )


def _are_one_hot(scores: Scores) -> bool:
    part = _sample(scores)
    high = part.max()
    return bool(high > 0 and ((part == 0) | (part == high)).all() and _sums_are_one(part / high, 0))


def _is_padded(scores_hw: tuple[int, int], size_hw: tuple[int, int]) -> bool:
    """Whether scores larger than the image are as of one that was padded to a multiple."""
    more = [have - own for have, own in zip(scores_hw, size_hw, strict=True)]
    return all(0 <= each < _PADDING for each in more) and any(
        have % _PADDED_TO == 0 for have in scores_hw
    )


def _shrunk(
    name: str, given: str, scores: Scores, size_hw: tuple[int, int], notes: Notes
) -> Scores:
    """Scores no larger than the image: the mean of what lies in each of the fewer places."""
    size = min(scores.shape[1], size_hw[0]), min(scores.shape[2], size_hw[1])
    if size == scores.shape[1:]:
        return scores
    hint = (
        f"; if the network saw it padded below and on the right, give {given}[:, :{size_hw[0]}, "
        f":{size_hw[1]}]"
        if _is_padded((scores.shape[1], scores.shape[2]), size_hw)
        else ""
    )
    notes.add(
        f"{name} of {scores.shape[1]} x {scores.shape[2]} are larger than the image of "
        f"{size_hw[0]} x {size_hw[1]}: shrunk to it by area{hint}"
    )
    planes = [
        np.asarray(
            Image.fromarray(plane.astype(np.float32)).resize(size[::-1], Image.Resampling.BOX)
        )
        for plane in scores
    ]
    return np.stack(planes)
