"""A job: which data set, which folder, what refines; begun, or gone on with."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Protocol

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_bulk.errors import NoServerError, OtherJobError
from sam_refine_bulk.inputs.source import Shard, Source
from sam_refine_bulk.outputs.disk import Disk
from sam_refine_bulk.outputs.layout import Layout
from sam_refine_bulk.outputs.manifest import Manifest, load
from sam_refine_bulk.patience import passes
from sam_refine_client import RefineError, ServerInfo

CARD: Final = "model_card.json"
_PAUSE_S: Final = 2.0


@dataclass(frozen=True)
class Started:
    """A job whose output folder is claimed."""

    manifest: Manifest
    shards: Sequence[Shard]

    @property
    def options(self) -> RefineOptions:
        return RefineOptions.from_parameters(self.manifest.options)


def begin(
    source: Source,
    output: Path,
    options: RefineOptions,
    activation: str | None,
    palette: str | None,
    model: dict[str, Any],
) -> Started:
    """Make `output` the folder of this job, or find that it is.

    Raises `InvalidRequestError` for a data set that has no shards, `OtherJobError`, `OutputError`.
    """
    here, there = Path(source.path).resolve(), output.resolve()
    if here == there or here in there.parents:
        raise InvalidRequestError(
            f"{output} must not be in {source.path}: results would be taken for input"
        )
    shards = source.shards()
    manifest = Manifest(
        source,
        tuple(shard.name for shard in shards),
        Source.inventory(shards),
        options.to_parameters(),
        activation,
        palette,
        model,
        own_version(),
    )
    manifest.claim(Layout(output), Disk())
    return Started(manifest, shards)


def resume(output: Path) -> Started:
    """The job of a folder, its input as it is now. Raises as `begin` does."""
    manifest = load(Layout(output))
    shards = manifest.source.shards()
    missing = sorted({*manifest.shards} - {shard.name for shard in shards})
    if missing:
        raise OtherJobError(f"{manifest.source.path} lacks {len(missing)} shards ({missing[0]})")
    known = set(manifest.shards)
    return Started(manifest, [shard for shard in shards if shard.name in known])


def own_version() -> str:
    """Of this installation."""
    try:
        return version("sam-refine")
    except PackageNotFoundError:
        return "of a source tree"


def card_facts(card: Path) -> dict[str, Any]:
    """What a model card says of the model: its digest. Raises `OSError`."""
    return {"model_card": hashlib.sha256(card.read_bytes()).hexdigest()}


class Asked(Protocol):
    """What of a `RefineClient` is asked."""

    @property
    def info(self) -> Callable[..., ServerInfo]: ...


def server_facts(client: Asked, wait_s: float, waiting: Callable[[str], object]) -> dict[str, Any]:
    """What a server says of its models, which does not tell two sets of weights apart.

    Waits for it so long. Raises `NoServerError`.
    """
    since_s = time.monotonic()
    while True:
        try:
            info = client.info(timeout_s=30.0)
        except RefineError as error:
            if not passes(error) or time.monotonic() - since_s > wait_s:
                raise NoServerError(str(error)) from error
            waiting(str(error))
            time.sleep(_PAUSE_S * random.uniform(0.5, 1))
            continue
        return {
            "server": f"{info.name} {info.version}",
            "models": {model.name: list(model.versions) for model in info.models},
        }
