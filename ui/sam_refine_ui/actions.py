"""What happens when something on the page is pressed."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass, replace
from enum import Enum
from html import escape
from pathlib import Path
from typing import Any, Final

import gradio as gr
from PIL import Image

from sam_refine.contract import InvalidRequestError
from sam_refine_client import RefineClient, RefineError
from sam_refine_client.arrays import Labels
from sam_refine_client.files.colours import class_palette
from sam_refine_client.reading.images import upright_rgb_of
from sam_refine_client.reading.labels import load_labels, stretched
from sam_refine_client.reading.notes import Notes
from sam_refine_client.reading.score_files import load_array
from sam_refine_ui import view
from sam_refine_ui.classes import BRUSHES, names_or_numbers, split_names
from sam_refine_ui.example import Example
from sam_refine_ui.knobs import DEFAULTS, options_of, values_of
from sam_refine_ui.scribbles import labels_of_scribbles

NOT_SAID: Final = "not said"
"""The choice of no activation, and of no table of colours."""
EDITOR_SIDE_PX: Final = 1024
"""Longest side of the picture that is painted on; the photo itself is refined at its own size."""
TIMEOUT_S: Final = 300.0
STATE_TIMEOUT_S: Final = 5.0
RESULT_OUTPUTS: Final = 8
"""How many values `Actions.refine` returns after the message."""


class Source(str, Enum):
    """Where the coarse map comes from: which tab is open."""

    PAINTED = "painted"
    LABELS = "labels"
    SCORES = "scores"


@dataclass(frozen=True)
class Actions:
    """The page's functions; gradio calls them with the values of the components."""

    client: RefineClient
    example: Example
    results: Path
    """Directory for the files of the last result; gradio serves copies of them."""

    def take_photo(self, photo: str | None) -> list[Any]:
        """The message, and the photo as a background with nothing painted on it yet."""
        try:
            return [_message(None), _to_paint_on(photo)]
        except (InvalidRequestError, OSError) as error:
            return [_message(error), None]

    def load_example(self) -> list[Any]:
        """The tab to open, the preset, and all arguments of `refine`, which is called next."""
        photo = str(self.example.photo)
        return [
            gr.Tabs(selected=Source.SCORES.value),
            DEFAULTS,
            Source.SCORES,
            photo,
            _to_paint_on(photo),
            None,
            "",
            str(self.example.scores),
            NOT_SAID,
            ", ".join(self.example.class_names),
            NOT_SAID,
            *values_of(DEFAULTS),
        ]

    def server_state(self) -> str:
        """HTML: whether what refines is ready, now. No image is sent for it."""
        return view.state(self.client.health(canary=False, timeout_s=STATE_TIMEOUT_S))

    def refine(
        self,
        source: Source,
        photo: str | None,
        painting: dict[str, Any] | None,
        labels: str | None,
        ignore_label: str,
        scores: str | None,
        activation: str,
        names: str,
        palette: str,
        *knobs: Any,
    ) -> list[Any]:
        """The message and what `view` makes of the result.

        After an error there is only the message: the last result goes, lest it pass for this one's.
        """
        notes = Notes()
        try:
            if photo is None:
                raise InvalidRequestError("there is no photo yet: add one first")
            options = options_of(knobs)
            image = upright_rgb_of("the photo", Path(photo), notes)
            size_hw = image.shape[0], image.shape[1]
            given: dict[str, Any]
            if source is Source.PAINTED:
                given = {"labels": _painted(painting, size_hw)}
            elif source is Source.LABELS:
                given = {"labels": _labels(labels, photo, size_hw, palette, notes)}
                options = replace(options, ignore_label=_number(ignore_label))
            else:
                given = {"logits": _scores(scores), "activation": _said(activation)}
            started_s = time.monotonic()
            result = self.client.refine(image, **given, options=options, timeout_s=TIMEOUT_S)
            took_s = time.monotonic() - started_s
        except (InvalidRequestError, RefineError, OSError) as error:
            shutil.rmtree(self.results, ignore_errors=True)
            return [_message(error, labels, scores), *_no_result()]
        for warning in result.warnings:
            notes.add(warning)
        class_names = split_names(names)
        shutil.rmtree(self.results, ignore_errors=True)
        files = result.save(
            self.results,
            image=image,
            class_names=names_or_numbers(class_names, view.class_count(result)),
        )
        return [
            _noted(notes),
            gr.Markdown(visible=False),
            gr.Column(visible=True),
            view.before_and_after(image, result),
            view.changes(image, result),
            view.legend(result, class_names),
            view.numbers(result, took_s),
            [str(path) for path in files],
            view.rows(result.regions or (), class_names),
        ]


def _no_result() -> list[Any]:
    """The hint again, the column of the result hidden, and nothing in it."""
    return [gr.Markdown(visible=True), gr.Column(visible=False), *[None] * (RESULT_OUTPUTS - 2)]


def _to_paint_on(photo: str | None) -> dict[str, Any] | None:
    if photo is None:
        return None
    picture = Image.fromarray(upright_rgb_of("the photo", Path(photo), Notes()))
    picture.thumbnail((EDITOR_SIDE_PX, EDITOR_SIDE_PX))
    return {"background": picture, "layers": [], "composite": None}


def _painted(painting: dict[str, Any] | None, size_hw: tuple[int, int]) -> Labels:
    """The map that was painted. Raises `InvalidRequestError` if nothing was."""
    layers = painting["layers"] if painting else []
    painted = labels_of_scribbles(layers, class_palette(BRUSHES + 1)[1:], size_hw)
    if not painted.any():
        raise InvalidRequestError("nothing is painted yet: paint over something with a brush")
    return painted


def _labels(
    labels: str | None, photo: str, size_hw: tuple[int, int], palette: str, notes: Notes
) -> Labels:
    """The label map that was added. Raises `InvalidRequestError`, `OSError`."""
    if labels is None:
        raise InvalidRequestError("there is no label map yet: add one first")
    found = load_labels(
        Path(labels),
        notes,
        palette=_said(palette),
        size_hw=size_hw,
        image_name=Path(photo).name,
    )
    return stretched(found, size_hw, notes)


def _scores(scores: str | None) -> Any:
    """The class scores that were added. Raises `InvalidRequestError`, `OSError`."""
    if scores is None:
        raise InvalidRequestError("there are no class scores yet: add them first")
    return load_array(Path(scores))


def _said(choice: str) -> str | None:
    return None if choice == NOT_SAID else choice


def _number(ignore_label: str) -> int | None:
    """The number that was typed; None if nothing was."""
    if not ignore_label.strip():
        return None
    if not re.fullmatch(r"-1|[0-9]{1,5}", ignore_label.strip()):
        raise InvalidRequestError(f"the ignore label must be a number, got {ignore_label!r}")
    return int(ignore_label)


def _message(error: Exception | None, *uploads: str | None) -> gr.HTML:
    """What is wrong, in one sentence; it stays until a button is pressed again.

    Files that were added are called by their names, not by where they lie here.
    """
    text = str(error) if error else ""
    for path in uploads:
        text = text.replace(str(path), Path(path).name) if path else text
    return gr.HTML(f"<div role='alert'>{escape(text)}</div>", visible=bool(text))


def _noted(notes: Notes) -> gr.HTML:
    """What was doubtful about the inputs, a line each."""
    lines = "".join(f"<div>{escape(each)}</div>" for each in notes.sentences)
    return gr.HTML(f"<div role='note'>{lines}</div>", visible=bool(lines))
