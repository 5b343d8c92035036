"""Names and colours of classes, the same everywhere on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sam_refine_client.files.colours import MAX_COLOURS, class_palette, colour_of

BRUSHES: Final = 8
"""Classes 1 to 8 can be painted; what is unpainted is class 0."""


def css_colour(class_id: int) -> str:
    """#rrggbb of a class; "transparent" if it has no colour."""
    colour = colour_of(class_id, class_palette(MAX_COLOURS))
    return "transparent" if colour is None else "#" + bytes(colour).hex()


def split_names(text: str | None) -> tuple[str, ...]:
    """Names of the classes from 0, which were typed with commas between them; may be too few."""
    names = [" ".join(name.split()) for name in (text or "").split(",")]
    while names and not names[-1]:
        names.pop()
    return tuple(names)


def names_or_numbers(names: Sequence[str], count: int) -> list[str]:
    """What each of `count` classes is called: its name, or its number if it has none."""
    return [(names[i] if i < len(names) else "") or str(i) for i in range(count)]


def class_name(class_id: int, names: Sequence[str]) -> str:
    """The number of a class, with its name if it has one."""
    name = names[class_id] if 0 <= class_id < len(names) else ""
    return f"{class_id} {name}".rstrip()
