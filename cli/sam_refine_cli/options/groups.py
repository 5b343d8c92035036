"""Options that several commands have, written once: a command takes each group as one value."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from inspect import Parameter
from typing import Any, Final, Generic, TypeVar

import typer

from sam_refine.contract import InvalidRequestError

T = TypeVar("T")
_CONTEXT: Final = "context"


@dataclass(frozen=True)
class OptionGroup(Generic[T]):
    """Options of the command line, and what is made of them."""

    options: tuple[Parameter, ...]
    """Keyword-only, annotated as typer wants it."""
    make: Callable[..., T]
    """From the options' values by name. What it raises as `InvalidRequestError` is wrong usage."""
    tells_written: bool = False
    """Whether `make` is told, as `written`, the names of those that stand in the command line."""


def option(name: str, annotation: Any, default: Any = Parameter.empty) -> Parameter:
    """One option of a group, or an argument; without a default it must be given."""
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def with_options(
    **groups: OptionGroup[Any],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of groups; it gets what is made of each by the group's name.

    They stand where the command has that name.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        options: list[Parameter] = []
        for name, parameter in signature.parameters.items():
            own = [parameter.replace(kind=Parameter.KEYWORD_ONLY)]
            options += groups[name].options if name in groups else own
        context = Parameter(_CONTEXT, Parameter.KEYWORD_ONLY, annotation=typer.Context)

        @wraps(command)
        def call(**values: Any) -> None:
            context = values.pop(_CONTEXT)
            made = {}
            for name, group in groups.items():
                given = {option.name: values.pop(option.name) for option in group.options}
                if group.tells_written:
                    given["written"] = {name for name in given if _is_written(context, name)}
                with usage_errors():
                    made[name] = group.make(**given)
            command(**values, **made)

        call.__signature__ = signature.replace(parameters=[context, *options])  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in (context, *options)}
        return call

    return decorate


def _is_written(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@contextmanager
def usage_errors() -> Iterator[None]:
    """Inside the block an `InvalidRequestError` is wrong usage: exit code 2."""
    try:
        yield
    except InvalidRequestError as error:
        raise typer.BadParameter(str(error)) from error
