"""Sets of request options by name: NAME:key=value,... or NAME=FILE.json."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_client.inputs.files import load_options

DEFAULT_SET: Final = "default"


def read_option_sets(texts: Iterable[str]) -> dict[str, RefineOptions]:
    """The sets in their order; without a text one of the defaults, named `default`.

    `careful:iou_threshold=0.9,mask_prompt=sam` has these options and the defaults of the others;
    `plain:` has nothing but defaults. `tuned=tuned.json` has those of a JSON object, or of its key
    `options`. Raises `InvalidRequestError` where a text, a name, a file's content or an option
    breaks a rule, and `OSError` where a file cannot be read.
    """
    sets: dict[str, RefineOptions] = {}
    for text in texts:
        name, separator, rest = _parts(text)
        if name in sets:
            raise InvalidRequestError(f"option sets must have different names, got {name!r} twice")
        parameters = _of_text(name, rest) if separator == ":" else load_options(Path(rest))
        place = f"option set {name!r}" if separator == ":" else rest
        try:
            sets[name] = RefineOptions.from_parameters(parameters)
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{place}: {error}") from error
    return sets or {DEFAULT_SET: RefineOptions()}


def check_option_sets(sets: Mapping[str, RefineOptions]) -> None:
    """Raise `InvalidRequestError` unless there are some, each `RefineOptions` with a name."""
    if not sets:
        raise InvalidRequestError("option_sets must have at least one set, got none")
    for name, options in sets.items():
        if not isinstance(name, str) or not name.strip():
            raise InvalidRequestError(
                f"option_sets must have names that are not empty, got {name!r}"
            )
        if not isinstance(options, RefineOptions):
            raise InvalidRequestError(
                f"option set {name!r} must be RefineOptions, got {type(options).__name__}"
            )


def _parts(text: str) -> tuple[str, str, str]:
    """Name, separator, and what comes after; whichever separator is first is the one."""
    rule = "option sets must be NAME:key=value,... or NAME=FILE.json"
    found = re.fullmatch(r"([^:=]*)([:=])(.*)", text, re.DOTALL)
    if found is None:
        raise InvalidRequestError(f"{rule}, got {text!r}")
    name, separator, rest = found[1].strip(), found[2], found[3].strip()
    if not name:
        raise InvalidRequestError(f"{rule} with a name that is not empty, got {text!r}")
    if separator == "=" and not rest:
        raise InvalidRequestError(f"{rule}, got no file in {text!r}")
    return name, separator, rest


def _of_text(name: str, text: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        key, separator, value = (part.strip() for part in pair.partition("="))
        if not (key and separator and value):
            raise InvalidRequestError(
                f"option set {name!r} must have key=value between commas, got {pair!r}"
            )
        if key in parameters:
            raise InvalidRequestError(
                f"option set {name!r} must have each key once, got {key} twice"
            )
        parameters[key] = value
    return parameters
