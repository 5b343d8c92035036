"""What is read from files besides images, scores and labels: names of classes, options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam_refine.contract import InvalidRequestError

_MOST_NAMES = 65536


def load_class_names(path: Path) -> list[str]:
    """Names of classes 0, 1, ...: the lines of a text file, or JSON.

    JSON is a list of names; an object {id: name} or {name: id}, such as Hugging Face's `id2label`
    and `label2id`; or a config.json that has one of these. An id without a name is called by its
    number. Raises `InvalidRequestError` for anything else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise InvalidRequestError(f"{path} must be a text file in UTF-8: {error}") from error
    if path.suffix.lower() != ".json":
        names = [line.strip() for line in text.splitlines()]
        while names and not names[-1]:
            names.pop()
        if not all(names):
            raise InvalidRequestError(
                f"{path} must have a name on each line, got none on line {names.index('') + 1}"
            )
        return names
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InvalidRequestError(f"{path} must be JSON: {error}") from error
    return _names_of(path, content)


def _names_of(path: Path, content: Any) -> list[str]:
    if isinstance(content, Mapping):
        for key in ("id2label", "label2id", "categories", "classes", "names"):
            if isinstance(content.get(key), Mapping | list):
                return _names_of(path, content[key])
    if isinstance(content, list):
        if all(isinstance(each, str) for each in content):
            return list(content)
        if all(isinstance(each, Mapping) and {"id", "name"} <= set(each) for each in content):
            return _by_id(path, [(each["id"], each["name"]) for each in content])
    elif isinstance(content, Mapping) and content:
        keys, values = list(content), list(content.values())
        if all(map(_is_id, keys)) and all(isinstance(value, str) for value in values):
            return _by_id(path, list(zip(keys, values, strict=True)))
        if all(map(_is_id, values)):
            return _by_id(path, list(zip(values, keys, strict=True)))
    raise InvalidRequestError(
        f"{path} must have a list of names, or an object of names by id or of ids by name"
    )


def _is_id(value: Any) -> bool:
    return not isinstance(value, bool) and str(value).isdecimal()


def _by_id(path: Path, pairs: list[tuple[Any, str]]) -> list[str]:
    names: dict[int, str] = {}
    for key, name in pairs:
        if not _is_id(key) or int(key) >= _MOST_NAMES:
            raise InvalidRequestError(f"{path} must have class ids from 0, got {key!r:.80}")
        if names.setdefault(int(key), str(name)) != name:
            raise InvalidRequestError(f"{path} must have one name for each id, got two for {key}")
    return [names.get(i, str(i)) for i in range(max(names) + 1)]


def load_options(path: Path) -> dict[str, Any]:
    """Request options of a JSON object, or of its key `options`; raises `InvalidRequestError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRequestError(f"{path} must be JSON: {error}") from error
    if isinstance(content, dict) and "options" in content:
        content = content["options"]
    if not isinstance(content, dict):
        raise InvalidRequestError(
            f"{path} must have a JSON object of options, or one at the key options, "
            f"got {type(content).__name__}"
        )
    return content
