"""What is read from files besides images, scores and labels: names of classes, options."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from sam_refine.contract import InvalidRequestError
from sam_refine_client.decoding import decoding, json_of
from sam_refine_client.reading.notes import Notes

_MOST_NAMES = 65536
_YAML: Final = (".yaml", ".yml")
_LISTS: Final = ("id2label", "label2id", "categories", "classes", "names", "labels")
"""Where Hugging Face, COCO, YOLO and others have the names in a file of more."""
_SEPARATORS: Final = ("\t", ";", ",")
_NAME_COLUMNS: Final = ("name", "class_name", "label_name", "class", "label", "category", "title")
_ID_COLUMNS: Final = (
    *("id", "class_id", "label_id", "category_id", "label", "index", "idx", "train_id", "trainid"),
)
_CVAT: Final = re.compile(r"([^:]+):(\d+,\d+,\d+)?:[^:]*:[^:]*")
"""A line of CVAT's labelmap.txt: "car:128,0,0::"."""
_QUOTED: Final = re.compile(r"\"[^\"]+\"|'[^']+'")
_LABELME_VOID: Final = "__ignore__"
"""How LabelMe's labels.txt begins."""
_ID_FIRST: Final = re.compile(r"(\d+)(\s*[:=]\s*|\s+)(\S.*)")
_COLOURED: Final = re.compile(r"(?:\d+\s+){3}(\D.*)|(\D.*?)(?:\s+\d+){3}")
"""A line of a table of colours: "128 64 128 road"."""
_NO_NAMES: Final = re.compile(r"^[<{}\[(]|[{}]$|^(import|class|def) |=\s*[\[({'\"]")
"""How lines of code or of markup begin or end."""


def load_class_names(path: Path, notes: Notes) -> list[str]:
    """Names of classes 0, 1, ...: the lines of a text file, or JSON, YAML or a table of them.

    Lines may have an id before the name, or a colour before or behind it; a table, with commas,
    semicolons or tabs, has columns of ids and names, with a heading or not. JSON and YAML have a
    list of names; an object {id: name} or {name: id}, such as Hugging Face's `id2label` and
    `label2id`; or one of these, as their config.json, COCO's categories and YOLO's data.yaml. An id
    without a name is called by its number. What is doubtful goes into `notes`. Raises
    `InvalidRequestError` for anything else, `OSError`.
    """
    text = _text(path)
    suffix = path.suffix.lower()
    with decoding(f"{path} must have class names"):
        if suffix == ".json":
            return _names_of(path, json_of(str(path), text), notes)
        if suffix in _YAML:
            return _names_of(path, _of_yaml(path, text), notes)
        return _names_of_lines(path, text, notes)


def _text(path: Path) -> str:
    content = path.read_bytes()
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    with decoding(f"{path} must be a text file in UTF-8", "; save it as UTF-8"):
        return content.decode(encoding)


def _of_yaml(path: Path, text: str) -> Any:
    try:
        yaml = import_module("yaml")
    except ModuleNotFoundError as error:
        raise InvalidRequestError(
            f"{path} needs PyYAML to be read, which is not installed: pip install pyyaml; or save "
            "the names as text, one on each line"
        ) from error
    with decoding(f"{path} must be YAML"):
        return yaml.safe_load(text)


def _names_of_lines(path: Path, text: str, notes: Notes) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    if all(_QUOTED.fullmatch(line) for line in lines if line):
        lines = [line[1:-1].strip() for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    if not lines:
        raise InvalidRequestError(f"{path} must have a name on each line, got none")
    if not all(lines):
        raise InvalidRequestError(
            f"{path} must have a name on each line, got none on line {lines.index('') + 1}"
        )
    if path.suffix.lower() == ".py" or any(map(_NO_NAMES.search, lines)):
        raise InvalidRequestError(
            f"{path} must have a name on each line, got code or markup: {lines[0]!r:.80}"
        )
    if lines[0] == _LABELME_VOID and len(lines) > 1:
        notes.add(
            f"{path}: {_LABELME_VOID} is no class, as in LabelMe, where it is -1: {lines[1]} is "
            "class 0"
        )
        lines.pop(0)
    for form in (_CVAT, _COLOURED):
        found = [form.fullmatch(line) for line in lines]
        if all(found):
            return [each[1] or each[2] for each in found if each]
    pairs = [_ID_FIRST.fullmatch(line) for line in lines]
    if all(pairs):
        return _of_numbered(path, [(each[1], each[2], each[3]) for each in pairs if each], notes)
    is_table = path.suffix.lower() in (".csv", ".tsv")
    for separator in _SEPARATORS:
        if all(separator in line for line in lines):
            return _of_table(path, _cells(path, lines, separator), notes)
    if is_table and lines[0].casefold() in _NAME_COLUMNS:
        return lines[1:]
    return lines


def _cells(path: Path, lines: list[str], separator: str) -> list[list[str]]:
    with decoding(f"{path} must be a table"):
        return list(csv.reader(lines, delimiter=separator, skipinitialspace=True))


def _of_numbered(path: Path, rows: list[tuple[str, str, str]], notes: Notes) -> list[str]:
    """Names of lines that begin with numbers: ids, unless these do not rise."""
    ids = [int(number) for number, _, _ in rows]
    is_spaced = any(not separator.strip(" ") for _, separator, _ in rows)
    if is_spaced and ids != sorted(set(ids)):
        return [f"{number}{separator}{name}" for number, separator, name in rows]
    if is_spaced and ids != list(range(len(ids))):
        notes.add(
            f"{path}: the numbers before the names are taken as class ids; if they belong to the "
            'names, give a JSON list: ["1 euro", ...]'
        )
    return _by_id(path, [(number, name) for number, _, name in rows], notes)


def _of_table(path: Path, rows: list[list[str]], notes: Notes) -> list[str]:
    """Names of a column that has such a heading, or of the one beside a column of ids."""
    heading = [cell.strip().casefold().replace(" ", "_") for cell in rows[0]]
    name_at = next((heading.index(each) for each in _NAME_COLUMNS if each in heading), None)
    if name_at is not None and not any(map(_is_id, heading)):
        rows = [row for row in rows[1:] if len(row) > name_at]
        ids_at = next(
            (
                heading.index(each)
                for each in _ID_COLUMNS
                if each in heading and heading.index(each) != name_at
            ),
            None,
        )
        if ids_at is None:
            return [row[name_at] for row in rows]
        return _by_id(path, [(row[ids_at], row[name_at]) for row in rows], notes)
    for ids_at, name_at in ((0, 1), (1, 0)):
        if all(len(row) == 2 and _is_id(row[ids_at]) for row in rows):
            return _by_id(path, [(row[ids_at], row[name_at]) for row in rows], notes)
    raise InvalidRequestError(
        f"{path} must have a name on each line, or an id and a name, or a heading with the column "
        f"name, got {', '.join(rows[0])!r:.80}; one line of many names is a JSON list"
    )


def _names_of(path: Path, content: Any, notes: Notes) -> list[str]:
    if isinstance(content, Mapping):
        for key in _LISTS:
            if isinstance(content.get(key), Mapping | list):
                return _names_of(path, content[key], notes)
    if isinstance(content, list) and content:
        if all(isinstance(each, str) for each in content):
            return list(content)
        rows = [each for each in content if isinstance(each, Mapping)]
        name = next(
            (key for key in _NAME_COLUMNS if all(_is_name(each.get(key)) for each in rows)), None
        )
        if len(rows) == len(content) and name is not None:
            if all("id" in each for each in rows):
                return _by_id(path, [(each["id"], each[name]) for each in rows], notes)
            return [str(each[name]) for each in rows]
    elif isinstance(content, Mapping) and content:
        keys, values = list(content), list(content.values())
        if all(map(_is_id, keys)) and all(isinstance(value, str) for value in values):
            return _by_id(path, list(zip(keys, values, strict=True)), notes)
        if all(map(_is_id, values)):
            return _by_id(path, list(zip(values, keys, strict=True)), notes)
    raise InvalidRequestError(
        f"{path} must have a list of names, or an object of names by id or of ids by name"
    )


def _is_name(value: Any) -> bool:
    """Whether it is a text or a number; of YAML it may be what no text could hold."""
    return isinstance(value, str | int | float)


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and str(value).isdecimal()


def _by_id(path: Path, pairs: Sequence[tuple[Any, Any]], notes: Notes) -> list[str]:
    names: dict[int, str] = {}
    for key, name in pairs:
        if not _is_id(key) or int(key) >= _MOST_NAMES:
            raise InvalidRequestError(f"{path} must have class ids from 0, got {key!r:.80}")
        if names.setdefault(int(key), str(name)) != str(name):
            raise InvalidRequestError(f"{path} must have one name for each id, got two for {key}")
    if len(names) > 1 and sorted(names) == list(range(1, len(names) + 1)):
        notes.add(
            f"{path} counts from 1: class 0 is called 0, class 1 {names[1]}; if {names[1]} is the "
            "first class of the scores, give a list of the names alone"
        )
    return [names.get(i, str(i)) for i in range(max(names) + 1)]


def load_options(path: Path) -> dict[str, Any]:
    """Request options of a JSON object, or of its key `options`; raises `InvalidRequestError`."""
    content = json_of(str(path), path.read_bytes())
    if isinstance(content, dict) and "options" in content:
        content = content["options"]
    if not isinstance(content, dict):
        raise InvalidRequestError(
            f"{path} must have a JSON object of options, or one at the key options, "
            f"got {type(content).__name__}"
        )
    return content
