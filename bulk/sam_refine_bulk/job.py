"""A job: which data set, which folder, what refines; begun, or gone on with."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from sam_refine.contract import NETWORKS_SHA256, InvalidRequestError, RefineOptions
from sam_refine_bulk.errors import NoServerError, OtherJobError
from sam_refine_bulk.inputs.source import Shard, Source
from sam_refine_bulk.outputs.disk import Disk
from sam_refine_bulk.outputs.layout import Layout
from sam_refine_bulk.outputs.manifest import Manifest, load
from sam_refine_bulk.patience import passes
from sam_refine_client import RefineError, ServerInfo
from sam_refine_client.files.run_manifest import MODEL_CARD
from sam_refine_client.status.info import agreed_networks

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
    return {MODEL_CARD: hashlib.sha256(card.read_bytes()).hexdigest()}


def server_facts(
    ask: Callable[[], Mapping[str, ServerInfo]], wait_s: float, waiting: Callable[[str], object]
) -> dict[str, Any]:
    """What servers say of their models, which tells two sets of weights apart if the export did.

    `ask` gives what each says that answers, at least one, by its address. Waits for it so long.
    Raises `NoServerError`, `InvalidRequestError` where they serve different networks.
    """
    since_s = time.monotonic()
    while True:
        try:
            infos = ask()
        except RefineError as error:
            if not passes(error) or time.monotonic() - since_s > wait_s:
                raise NoServerError(str(error)) from error
            waiting(str(error))
            time.sleep(_PAUSE_S * random.uniform(0.5, 1))
            continue
        info, networks = next(iter(infos.values())), agreed_networks(infos)
        facts = {
            "server": f"{info.name} {info.version}",
            "models": {model.name: list(model.versions) for model in info.models},
        }
        return facts if networks is None else {**facts, NETWORKS_SHA256: networks}
