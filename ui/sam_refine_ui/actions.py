"""What happens when something on the page is pressed."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
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
from sam_refine_client.reading.labels import ReadLabels, load_labels, stretched
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
RESULT_OUTPUTS: Final = 10
"""How many values `Actions.refine` returns after the messages."""


class Place(Enum):
    """What a message is about, and so beside what it stands."""

    PHOTO = "photo"
    MAP = "map"
    WORK = "work"
    """The options, the server, the request as a whole."""


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

    def load_example(self) -> list[Any]:
        """That it is the example, the tab, the preset, and the arguments of `refine`."""
        photo = str(self.example.photo)
        return [
            True,
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

    def take_photo(self, photo: str | None, is_example: bool) -> list[Any]:
        """The messages, no result, the photo to paint on, and nothing of the example beside it.

        Then whether it is still the example, tab, source, scores and class names.
        """
        try:
            messages, background = _messages(), _to_paint_on(photo)
        except (InvalidRequestError, OSError) as error:
            messages, background = _messages({Place.PHOTO: str(error)}), None
        gone: list[Any] = [gr.skip()] * 5
        if is_example:
            gone = [False, gr.Tabs(selected=Source.LABELS.value), Source.LABELS, None, ""]
        return [*messages, *_no_result(), background, *gone]

    def take_map(self, source: Source, is_example: bool) -> list[Any]:
        """The messages, no result, and nothing of the example beside somebody's own map.

        Then whether it is still the example, photo, painting, scores and class names.
        """
        gone: list[Any] = [gr.skip()] * 5
        if is_example:
            gone = [False, None, None, gr.skip() if source is Source.SCORES else None, ""]
        return [*_messages(), *_no_result(), *gone]

    def server_state(self) -> str:
        """HTML: whether what refines is ready, now. No image is sent for it."""
        return view.state(self.client.health(canary=False, timeout_s=STATE_TIMEOUT_S))

    def refine_example(self, is_example: bool, *inputs: Any) -> list[Any]:
        """As `refine`; where the server is not ready, no message but that of `server_state`.

        Nothing where somebody's own photo or map came sooner.
        """
        if not is_example:
            return [gr.skip()] * (len(Place) + RESULT_OUTPUTS)
        if not self.client.health(canary=False, timeout_s=STATE_TIMEOUT_S).is_healthy:
            return [*_messages(), *_no_result()]
        return self.refine(*inputs)

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
        """The messages, one for each `Place`, and what `view` makes of the result.

        After an error there are only messages: the last result goes, lest it pass for this one's.
        """
        notes = {place: Notes() for place in Place}
        place = Place.PHOTO
        try:
            if photo is None:
                raise InvalidRequestError("there is no photo yet: add one first")
            image = upright_rgb_of("the photo", Path(photo), notes[place])
            size_hw = image.shape[0], image.shape[1]
            place = Place.WORK
            options = options_of(knobs)
            place = Place.MAP
            given: dict[str, Any]
            if source is Source.PAINTED:
                given = {"labels": _painted(painting, size_hw)}
            elif source is Source.LABELS:
                void = _number(ignore_label)
                read = _labels(labels, photo, size_hw, palette, void, notes[place])
                given = {"labels": read.values}
                options = replace(options, ignore_label=read.void)
            else:
                given = {"logits": _scores(scores), "activation": _said(activation)}
            started_s = time.monotonic()
            result = self.client.refine(image, **given, options=options, timeout_s=TIMEOUT_S)
            took_s = time.monotonic() - started_s
        except (InvalidRequestError, RefineError, OSError) as error:
            shutil.rmtree(self.results, ignore_errors=True)
            if isinstance(error, RefineError):
                place = Place.WORK
            wrong = {Place.WORK: f"Nothing was refined: see below the {place.value}."}
            wrong[place] = _named(str(error), labels, scores)
            return [*_messages(wrong, notes), *_no_result()]
        for warning in result.warnings:
            if labels is not None and source is Source.LABELS:  # it was read from there
                warning = re.sub(r"^labels\b", Path(labels).name, warning)
            notes[Place.MAP].add(warning)
        class_names = split_names(names)
        shutil.rmtree(self.results, ignore_errors=True)
        files = result.save(
            self.results,
            image=image,
            class_names=names_or_numbers(class_names, view.class_count(result)),
        )
        shown = view.Shown.of(image, result)
        return [
            *_messages({}, notes),
            gr.Markdown(visible=False),
            gr.Column(visible=True),
            shown,
            view.before_and_after(shown),
            view.changes(shown),
            view.enlarged(shown),
            view.legend(result, class_names),
            view.numbers(result, took_s),
            [str(path) for path in files],
            view.rows(result.regions or (), class_names),
        ]

    def enlarge(self, shown: view.Shown, at: gr.SelectData) -> view.Pair:
        """The part of the maps around what was pressed on the picture of changed pixels."""
        x, y = at.index
        return view.enlarged(shown, view.window_at(shown, x, y))


def open_tab(source: Source) -> list[Any]:
    """The source of a tab that is opened, and no messages: they are about that of another."""
    return [source, *_messages()[1:]]


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
    labels: str | None,
    photo: str,
    size_hw: tuple[int, int],
    palette: str,
    void: int | None,
    notes: Notes,
) -> ReadLabels:
    """The label map that was added, and its void. Raises `InvalidRequestError`, `OSError`."""
    if labels is None:
        raise InvalidRequestError("there is no label map yet: add one first")
    read = Notes()
    found = load_labels(
        Path(labels),
        read,
        palette=_said(palette),
        void=void,
        size_hw=size_hw,
        image_name=Path(photo).name,
    )
    for sentence in read.sentences:
        notes.add(_named(sentence, labels))
    return ReadLabels(stretched(found.values, size_hw, notes), found.void)


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


_OPTIONS: Final = {
    "activation": "Activation",
    "ignore_label": "Ignore label",
    "palette": "Colours",
}
_OPTION: Final = re.compile(rf"\b({'|'.join(_OPTIONS)})=(-?\w*)")


def in_words_of_page(text: str) -> str:
    """A sentence of the client's, with its options called as they are on the page.

    It begins with a capital, unless it begins with a file's name.
    """
    text = text.replace("palette=, a file of colours and names or", "palette=,")
    text = _OPTION.sub(lambda found: f'"{_OPTIONS[found[1]]}" {found[2]}'.rstrip(), text)
    return text[0].upper() + text[1:] if re.match("[a-z]+[ :]", text) else text


def _named(text: str, *uploads: str | None) -> str:
    """A sentence that calls files that were added by their names, not by where they lie here."""
    for path in uploads:
        text = text.replace(str(path), Path(path).name) if path else text
    return text


def _messages(
    wrong: Mapping[Place, str] | None = None, notes: Mapping[Place, Notes] | None = None
) -> list[gr.HTML]:
    """For each `Place` what is wrong, in one sentence, and what was doubtful, a line each.

    They stay until a button is pressed again.
    """
    messages = []
    for place in Place:
        error = in_words_of_page((wrong or {}).get(place, ""))
        doubts = map(in_words_of_page, notes[place].sentences) if notes else ()
        html = f"<div role='alert'>{escape(error)}</div>" if error else ""
        lines = "".join(f"<div>{escape(each)}</div>" for each in doubts)
        if lines:
            html += f"<div role='note'>{lines}</div>"
        messages.append(gr.HTML(html, visible=bool(html)))
    return messages
