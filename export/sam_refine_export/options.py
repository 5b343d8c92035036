"""The options of an export."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from sam_refine_export.errors import ExportError
from sam_refine_export.variants import Model
from sam_refine_export.weights.files import checkpoint_file


class Precision(str, Enum):
    """What the graphs compute in; inputs and outputs are float32 either way."""

    FP32 = "fp32"
    FP16 = "fp16"
    """Matrix products and convolutions in float16, the rest in float32: for GPUs."""


class Device(str, Enum):
    """Where Triton runs the graphs: `instance_group` in their config."""

    AUTO = "auto"
    """A GPU if Triton sees one, else the CPU."""
    CPU = "cpu"
    GPU = "gpu"


LARGEST_MAX_BATCH_SIZE: Final = 64
"""Larger batches make no GPU faster, and the export has to run the largest once."""


@dataclass(frozen=True)
class ExportOptions:
    """One export. Raises `ExportError` where the options do not go together."""

    model: Model | None = None
    """None takes the one that the checkpoint is of, and without a checkpoint `mobile`."""
    checkpoint: Path | None = None
    """A checkpoint of the model, or the folder with it, a path of any kind; the file once it is
    found. None takes the published ONNX graphs, for a model that has them: `mobile`."""
    precision: Precision = Precision.FP32
    device: Device = Device.AUTO
    max_batch_size: int | None = None
    """Images that the encoder takes at a time, 1 to 64; None takes the model's default."""

    def __post_init__(self) -> None:
        if self.model is None and self.checkpoint is None:
            object.__setattr__(self, "model", Model.MOBILE)
        for name, kind in (("model", Model), ("precision", Precision), ("device", Device)):
            value = getattr(self, name)
            if value is None and name == "model":
                continue
            try:
                object.__setattr__(self, name, kind(value))  # plain strings are fine
            except ValueError:
                allowed = ", ".join(member.value for member in kind)
                raise ExportError(f"{name} must be one of {allowed}, got {value!r}") from None
        size = self.max_batch_size
        if size is not None and not (type(size) is int and 1 <= size <= LARGEST_MAX_BATCH_SIZE):
            raise ExportError(
                f"max_batch_size must be a whole number from 1 to {LARGEST_MAX_BATCH_SIZE}, "
                f"got {size!r}"
            )
        if self.checkpoint is None:
            if self.model is not None and self.model.variant.graphs is None:
                raise ExportError(
                    f"model {self.model.value} needs a checkpoint: {_ways_to_give_one(self.model)}"
                )
            return
        if not isinstance(self.checkpoint, str | os.PathLike):
            raise ExportError(f"checkpoint must be a path, got {self.checkpoint!r}")
        path = Path(self.checkpoint)
        require_unicode(path)
        object.__setattr__(self, "checkpoint", checkpoint_file(path))

    def encoder_max_batch_size(self, model: Model) -> int:
        """`max_batch_size`, or the default of the model that is exported."""
        return self.max_batch_size or model.variant.max_batch_size


def _ways_to_give_one(model: Model) -> str:
    published = model.variant.checkpoint
    if published is None:
        return "--checkpoint FILE"
    return f"--checkpoint FILE, or --download for {published.publisher}'s"


def require_unicode(path: Path) -> None:
    """Raise `ExportError` for a path that ONNX files and model cards cannot hold."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ExportError(f"the path {str(path)!a} is not UTF-8") from error
