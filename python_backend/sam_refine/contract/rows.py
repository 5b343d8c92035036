"""Options as rows: everything about an option is written once, where its field is.

    @dataclass(frozen=True)
    class MyOptions(OptionTable):
        sharpness: float = option(
            0.5,
            range=(0.0, 1.0),
            label="Sharpness",
            help="How closely borders follow the image.",
            reason="0.5. Lower it if borders are ragged.",
        )

    MyOptions(sharpness="banana")          InvalidRequestError
    MyOptions.rows["sharpness"].range      (0.0, 1.0)

Validation, the command line's help, the page and the tables of the documentation are made from the
rows. A field that has no row, or whose type has no rule, is refused when its class is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field
from enum import Enum
from inspect import get_annotations
from types import MappingProxyType, NoneType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union, get_args, get_origin

from sam_refine.contract.checks import boolean, choice, integer, number

T = TypeVar("T")
C = TypeVar("C", bound="Choice")


class Choice(str, Enum):
    """Values of an option that has only a few, each with what it does in half a sentence.

    A member is written as `NAME = "value", "what it does"`; called with a value alone, as any enum,
    the class gives the member.
    """

    explanation: str

    def __new__(cls: type[C], value: str, explanation: str = "") -> C:
        member = str.__new__(cls, value)
        member._value_ = value
        member.explanation = explanation
        return member

    if TYPE_CHECKING:  # which takes the value of an enum with its own __new__ for Any

        @property
        def value(self) -> str: ...


@dataclass(frozen=True)
class OptionRow:
    """All that is known of one option."""

    name: str
    kind: type[Any]
    """bool, int, float or a `Choice`."""
    is_optional: bool
    """Whether it may be None."""
    default: Any
    label: str
    """Its name for people, a few words."""
    help: str
    """What it does, in a sentence or two; of choices without what each of them does."""
    reason: str
    """Why it has this default, and when to change it."""
    range: tuple[float, float] | None
    """Lowest and highest value of a number; None for any other kind."""
    on_page: bool
    """Whether the page in the browser shows it."""

    @classmethod
    def of(cls, name: str, annotation: Any, declared: object) -> OptionRow:
        """The row of a field declared as `name: annotation = declared`.

        Raises `TypeError` where `declared` is not made by `option`, where the type has no rule, and
        where a number has no range or something else has one.
        """
        if not isinstance(declared, Field) or "label" not in declared.metadata:
            raise TypeError(f"{name} must have a row, as `option(...)` makes it, got {declared!r}")
        kind, is_optional = _kind(annotation)
        is_choice = isinstance(kind, type) and issubclass(kind, Choice)
        if not is_choice and kind not in (bool, int, float):
            raise TypeError(
                f"{name} must be bool, int, float or a Choice, or one of these or None, "
                f"got {annotation!r}"
            )
        if is_choice and not all(each.explanation for each in kind):
            raise TypeError(f"{name} must have an explanation for each choice, got {list(kind)}")
        row = cls(name, kind, is_optional, declared.default, **declared.metadata)
        if (row.range is not None) != (kind in (int, float)):
            raise TypeError(
                f"{name} must have a range if it is a number, and only then, "
                f"got {row.range} for {kind.__name__}"
            )
        return row

    @property
    def choices(self) -> tuple[Choice, ...]:
        """All values of an option that is a `Choice`; none for any other kind."""
        return tuple(self.kind) if issubclass(self.kind, Choice) else ()

    @property
    def full_help(self) -> str:
        """`help`, and for a `Choice` what each value does."""
        explained = "; ".join(f"{each.value}: {each.explanation}" for each in self.choices)
        return f"{self.help} {explained}." if explained else self.help

    def checked(self, value: object) -> bool | int | float | Choice | None:
        """`value` in the option's own type; raises `InvalidRequestError` where it has no such."""
        if value is None and self.is_optional:
            return None
        if self.range is not None:
            low, high = self.range
            if self.kind is int:
                return integer(self.name, value, int(low), int(high))
            return number(self.name, value, low, high)
        if self.kind is bool:
            return boolean(self.name, value)
        chosen: Choice = choice(self.name, value, self.kind)
        return chosen


def option(
    default: T,
    *,
    label: str,
    help: str,
    reason: str,
    range: tuple[float, float] | None = None,
    on_page: bool = True,
) -> T:
    """The default and the row of a dataclass field; see `OptionRow` for what each part means."""
    row = {"label": label, "help": help, "reason": reason, "range": range, "on_page": on_page}
    return field(default=default, metadata=row)


class OptionTable:
    """Base of a frozen dataclass whose fields are options: checks each by its row.

    A subclass raises `TypeError` when it is made if one of its fields has no row or no rule. An
    instance raises `InvalidRequestError` for a value that breaks its option's rule.
    """

    rows: ClassVar[Mapping[str, OptionRow]] = MappingProxyType({})
    """By name, in the order of the fields."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        annotations: dict[str, Any] = get_annotations(cls, eval_str=True)
        own = {
            name: OptionRow.of(name, annotation, cls.__dict__.get(name))
            for name, annotation in annotations.items()
        }
        cls.rows = MappingProxyType({**cls.rows, **own})

    def __post_init__(self) -> None:
        for name, row in self.rows.items():
            object.__setattr__(self, name, row.checked(getattr(self, name)))


def _kind(annotation: Any) -> tuple[Any, bool]:
    """The type that is not None, and whether None is allowed, too."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    kinds = [each for each in get_args(annotation) if each is not NoneType]
    is_optional = len(kinds) < len(get_args(annotation))
    return (kinds[0] if len(kinds) == 1 else annotation), is_optional
