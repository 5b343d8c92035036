"""What happens when something on the page is pressed."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from enum import Enum
from html import escape
from pathlib import Path
from typing import Any, Final

import gradio as gr
from PIL import Image

from sam_refine.contract import InvalidRequestError
from sam_refine_client import RefineClient, RefineError
from sam_refine_client.arrays import UInt8
from sam_refine_client.files.colours import class_palette
from sam_refine_ui import view
from sam_refine_ui.classes import BRUSHES, names_or_numbers, split_names
from sam_refine_ui.coarse.coarse_map import CoarseMap
from sam_refine_ui.coarse.scribbles import labels_of_scribbles
from sam_refine_ui.coarse.uploads import read_labels, read_photo, read_scores
from sam_refine_ui.example import Example
from sam_refine_ui.knobs import DEFAULTS, options_of, values_of

ALREADY_SCORES: Final = "none"
"""The choice that stands for no activation."""
EDITOR_SIDE_PX: Final = 1024
"""Longest side of the picture that is painted on; the photo itself is refined at its own size."""
TIMEOUT_S: Final = 300.0
RESULT_OUTPUTS: Final = 7
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
        except InvalidRequestError as error:
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
            ALREADY_SCORES,
            ", ".join(self.example.class_names),
            *values_of(DEFAULTS),
        ]

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
        *knobs: Any,
    ) -> list[Any]:
        """The message and what `view` makes of the result; after an error only the message."""
        try:
            if photo is None:
                raise InvalidRequestError("there is no photo yet: add one first")
            options = options_of(knobs)
            image = read_photo(Path(photo))
            coarse = _coarse_map(source, image, painting, labels, ignore_label, scores)
            is_raw = source is Source.SCORES and activation != ALREADY_SCORES
            started_s = time.monotonic()
            result = self.client.refine(
                image,
                logits=coarse.scores,
                labels=coarse.labels,
                activation=activation if is_raw else None,
                options=coarse.options(options),
                outputs=("labels", "coarse_labels", "regions"),
                timeout_s=TIMEOUT_S,
            )
            took_s = time.monotonic() - started_s
        except (InvalidRequestError, RefineError) as error:
            return [_message(error), *[gr.skip()] * RESULT_OUTPUTS]
        result = coarse.named(result)
        class_names = split_names(names)
        shutil.rmtree(self.results, ignore_errors=True)
        files = result.save(
            self.results,
            image=image,
            class_names=names_or_numbers(class_names, view.class_count(result)),
        )
        return [
            _message(None),
            gr.Markdown(visible=False),
            gr.Column(visible=True),
            view.before_and_after(image, result),
            view.legend(result, class_names),
            view.numbers(result, took_s),
            [str(path) for path in files],
            view.rows(result.regions or (), class_names),
        ]


def _to_paint_on(photo: str | None) -> dict[str, Any] | None:
    if photo is None:
        return None
    picture = Image.fromarray(read_photo(Path(photo)))
    picture.thumbnail((EDITOR_SIDE_PX, EDITOR_SIDE_PX))
    return {"background": picture, "layers": [], "composite": None}


def _coarse_map(
    source: Source,
    image: UInt8,
    painting: dict[str, Any] | None,
    labels: str | None,
    ignore_label: str,
    scores: str | None,
) -> CoarseMap:
    """The map of the open tab. Raises `InvalidRequestError` if it has none."""
    size_hw = image.shape[0], image.shape[1]
    if source is Source.PAINTED:
        layers = painting["layers"] if painting else []
        painted = labels_of_scribbles(layers, class_palette(BRUSHES + 1)[1:], size_hw)
        if not painted.any():
            raise InvalidRequestError("nothing is painted yet: paint over something with a brush")
        return CoarseMap.of_labels(painted)
    if source is Source.LABELS:
        if labels is None:
            raise InvalidRequestError("there is no label map yet: add one first")
        return CoarseMap.of_labels(read_labels(Path(labels), size_hw), _number(ignore_label))
    if scores is None:
        raise InvalidRequestError("there are no class scores yet: add them first")
    return CoarseMap(read_scores(Path(scores)))


def _number(ignore_label: str) -> int | None:
    """The number that was typed; None if nothing was."""
    if not ignore_label.strip():
        return None
    if not ignore_label.strip().isdecimal():
        raise InvalidRequestError(f"the ignore label must be a number, got {ignore_label!r}")
    return int(ignore_label)


def _message(error: Exception | None) -> gr.HTML:
    """What is wrong, in one sentence; it stays until a button is pressed again."""
    text = str(error) if error else ""
    return gr.HTML(f"<div role='alert'>{escape(text)}</div>", visible=bool(text))
