"""The examples that docstrings draw, as arrays: a drawing that is wrong fails a test."""

from __future__ import annotations

import re
from types import ModuleType

import numpy as np


def columns_drawn_in(module: ModuleType) -> list[np.ndarray]:
    """Each column of the module's drawing: (rows, columns) of single characters.

    A drawing is made of digits, dots and the signs # + x P, indented by four spaces. A column may
    have fewer rows than the first one.
    """
    lines = [line[4:] for line in (module.__doc__ or "").splitlines()]
    rows = [line.split() for line in lines if re.match(r"[0-9.#+xP]{8}(\s|$)", line)]
    drawn = [[cell for cell in row if re.fullmatch(r"[0-9.#+xP]{4,8}", cell)] for row in rows]
    return [
        np.array([list(row[index]) for row in drawn if len(row) > index])
        for index in range(len(drawn[0]))
    ]
