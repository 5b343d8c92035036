"""The one network in what training has saved, by segment-anything's names.

Training code wraps a network's tensors: in mappings (`{"model": ...}`, `{"state_dict": ...}`, with
the optimizer's state, the epoch and the options beside them) and in modules, which put their names
in front (`module.`, `model.sam.`, `_orig_mod.`). The rules, for any wrapper by any name:

- a network is a mapping of names to tensors in which one of SAM's parts is named; mappings within
  mappings and lists are looked at, and what lies in other mappings than the network's is left out;
- what stands before the parts' names is taken away, as are the names of modules that only wrap;
- whatever else lies in the network's own mapping stays, and is refused by its name where it is
  loaded: a network of more than SAM would not compute the same without it;
- `pixel_mean` and `pixel_std`, or what transformers' processor says in a file beside it, have to be
  SAM's, which the graphs have built in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from sam_refine_export.errors import ExportError
from sam_refine_export.networks.sam_networks import PIXEL_MEAN, PIXEL_STD, State, few
from sam_refine_export.weights.transformers_names import (
    is_of_transformers,
    pixels_beside,
    sam_names,
)

_KeyPath: TypeAlias = tuple[str, ...]

_PARTS: Final = frozenset(
    {"image_encoder", "prompt_encoder", "mask_decoder", "vision_encoder", "shared_image_embedding"}
)
"""As segment-anything and, the last two, transformers name them."""
_WRAPPERS: Final = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
)
"""Modules that wrap another and change nothing: of DataParallel, torch.compile, FSDP."""
_DEEPEST: Final = 5
"""How many mappings lie in each other: a pickle can hold one within itself."""
_PIXELS: Final = {"pixel_mean": PIXEL_MEAN, "pixel_std": PIXEL_STD}
_PIXEL_TOLERANCE: Final = 2**-8
"""Relative: what bfloat16 rounds by."""


def network_in(content: Any, checkpoint: Path) -> State:
    """The tensors of the one network in a checkpoint's content, by the module's rules.

    Of a network that is no SAM they keep their names. Raises `ExportError`, naming the file
    `checkpoint`, where there is no network or more than one, or where a tensor has no values.
    """
    state = _without_wrappers(_mapping_of_network(content, checkpoint))
    _require_one_network(state, checkpoint)
    state = _without_prefix(state)
    if is_of_transformers(state):
        state = {**sam_names(state, checkpoint), **pixels_beside(checkpoint)}
    _require_pixels_of_sam(state, checkpoint)
    state = {name: tensor for name, tensor in state.items() if name not in _PIXELS}
    _require_values(state, checkpoint)
    return state


def _mapping_of_network(content: Any, checkpoint: Path) -> State:
    """The only mapping with parts of SAM; where none has any, the one of most tensors."""
    mappings = dict(_mappings(content))
    if not mappings:
        raise ExportError(
            f"{checkpoint} holds no mapping of names to tensors: save one, "
            "torch.save(model.state_dict(), 'sam.pth')"
        )
    networks = [
        path for path, state in mappings.items() if any(_prefix(n) is not None for n in state)
    ]
    if len(networks) > 1:
        names = ", ".join(".".join(path) or "the outermost" for path in networks)
        keys = "".join(f"[{key if key.isdecimal() else repr(key)}]" for key in networks[-1])
        raise ExportError(
            f"{checkpoint} holds several networks: {names}. Save the one that you mean: "
            f"torch.save(torch.load({checkpoint.name!r}){keys}, 'sam.pth')"
        )
    path = networks[0] if networks else max(mappings, key=lambda path: len(mappings[path]))
    return mappings[path]


def _mappings(content: Any, path: _KeyPath = ()) -> Iterator[tuple[_KeyPath, dict[str, Tensor]]]:
    """The tensors of each mapping within `content`, by the keys that lead to it.

    A mapping of SAM's parts, each a mapping of its own, is one network.
    """
    if isinstance(content, list | tuple):
        content = {str(index): value for index, value in enumerate(content)}
    if not isinstance(content, Mapping) or len(path) > _DEEPEST:
        return
    tensors: dict[str, Tensor] = {}
    for key, value in content.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, Tensor):
            tensors[key] = value
        elif key in _PARTS and isinstance(value, Mapping):
            tensors |= {f"{key}.{name}": t for name, t in value.items() if isinstance(t, Tensor)}
        else:
            yield from _mappings(value, (*path, key))
    if tensors:
        yield path, tensors


def _prefix(name: str) -> str | None:
    """What stands before the first part of SAM in a name; None where there is no part in it."""
    words = name.split(".")
    for place, word in enumerate(words):
        if word in _PARTS:
            return "".join(f"{each}." for each in words[:place])
    return None


def _without_wrappers(state: State) -> State:
    return {
        ".".join(word for word in name.split(".") if word not in _WRAPPERS): tensor
        for name, tensor in state.items()
    }


def _require_one_network(state: State, checkpoint: Path) -> None:
    """Refuse a mapping that has a parameter by several prefixes, as a teacher and a student do."""
    prefixes: dict[str, list[str]] = {}
    for name in state:
        prefix = _prefix(name)
        if prefix is not None:
            prefixes.setdefault(name.removeprefix(prefix), []).append(prefix)
    several = max(prefixes.values(), key=len, default=[])
    if len(several) > 1:
        names = ", ".join(prefix or "the rest" for prefix in several)
        raise ExportError(
            f"{checkpoint} holds several networks: {names}. Save the one that you mean: torch.save("
            f"{{name: tensor for name, tensor in state.items() if name.startswith({several[-1]!r})"
            "}, 'sam.pth')"
        )


def _without_prefix(state: State) -> State:
    """As it is where parts have several prefixes."""
    prefixes = {_prefix(name) for name in state} - {None}
    if len(prefixes) != 1:
        return state
    (prefix,) = prefixes
    assert prefix is not None
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}


def _require_pixels_of_sam(state: State, checkpoint: Path) -> None:
    for name, expected in _PIXELS.items():
        if name not in state:
            continue
        found = state[name].flatten().double()
        wanted = torch.tensor(expected, dtype=torch.float64)
        if found.shape != wanted.shape or not torch.allclose(
            found, wanted, rtol=_PIXEL_TOLERANCE, atol=0
        ):
            raise ExportError(
                f"{checkpoint} was trained on images normalised in another way: its {name} is "
                f"{_listed(found)}, SAM's {_listed(wanted)}, which the graphs have built in"
            )


def _listed(values: Tensor) -> str:
    return ", ".join(f"{value:g}" for value in values.tolist())


def _require_values(state: State, checkpoint: Path) -> None:
    """Refuse what is sparse, and what was saved on `meta`."""
    names = [
        name
        for name, tensor in state.items()
        if tensor.layout is not torch.strided or tensor.device.type != "cpu"
    ]
    if names:
        raise ExportError(
            f"{checkpoint} has tensors that are sparse or without values: {few(names)}"
        )
