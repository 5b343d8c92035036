"""Checks of single values: each returns the value in its own type, or says what is wrong."""

from __future__ import annotations

import math
import re
from enum import Enum
from typing import SupportsFloat, SupportsInt, TypeVar

import numpy as np


class InvalidRequestError(ValueError):
    """A request breaks a rule of this contract: one sentence with field, rule and what came."""


class InvalidOptionError(InvalidRequestError):
    """An option of the request has a value that it cannot have."""


class LimitExceededError(InvalidRequestError):
    """The request asks for more than this deployment, or one message, allows."""


E = TypeVar("E", bound=Enum)


def choice(name: str, value: object, choices: type[E], rule: str | None = None) -> E:
    """The member of an enum that `value` is, or is the value of.

    Raises `InvalidRequestError`, which says that `name` must be `rule`: by default one of the
    choices' values as Python writes them.
    """
    try:
        return choices(value)
    except ValueError:
        rule = rule or f"one of {', '.join(repr(choice.value) for choice in choices)}"
        raise InvalidRequestError(f"{name} must be {rule}, got {shown(value)}") from None


def integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """`value`, or what its decimal text says, as an int in [low, high].

    Raises `InvalidRequestError` for any other value, a bool among them.
    """
    try:
        number = _integral(value)
        if number < low or (high is not None and number > high):
            raise ValueError(value)
    except (TypeError, ValueError, OverflowError):
        rule = f">= {low}" if high is None else f"in [{low}, {high}]"
        raise InvalidRequestError(f"{name} must be an integer {rule}, got {shown(value)}") from None
    return number


def _integral(value: object) -> int:
    """An int, an integral float (JSON has no other numbers) or the decimal text of an int."""
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", value):
            raise ValueError(value)
        return int(value)
    if isinstance(value, bool | np.bool_) or not isinstance(value, SupportsInt):
        raise TypeError(value)
    if int(value) != value:
        raise ValueError(value)
    return int(value)


def number(name: str, value: object, low: float, high: float) -> float:
    """`value`, or what its text says, as a finite float in [low, high].

    Raises `InvalidRequestError` for any other value, a bool among them.
    """
    try:
        if isinstance(value, bool | np.bool_) or not isinstance(value, str | SupportsFloat):
            raise TypeError(value)
        number = float(value)
        if not math.isfinite(number) or not low <= number <= high:
            raise ValueError(value)
    except (TypeError, ValueError, OverflowError):
        rule = f"in [{low:g}, {high:g}]"
        raise InvalidRequestError(
            f"{name} must be a finite number {rule}, got {shown(value)}"
        ) from None
    return number


def boolean(name: str, value: object) -> bool:
    """`value`, or what its text (`"true"`, `"False"`) says, as a bool; numbers are none.

    Raises `InvalidRequestError` for any other value.
    """
    texts = {"true": True, "false": False}
    flag = texts.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(flag, bool | np.bool_):
        raise InvalidRequestError(f"{name} must be true or false, got {shown(value)}")
    return bool(flag)


def shown(value: object) -> str:
    """A caller's value for a message: no longer than a line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
