"""`sam-refine export`: SAM's networks to a model repository that is ready to serve."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from sam_refine_cli.console import errors_in_one_line, need_extra, stderr, stdout

DEFAULT_REPOSITORY = Path("build/model_repository")


class Model(str, Enum):
    """What can be exported."""

    MOBILE = "mobile"
    VIT_B = "vit_b"
    VIT_L = "vit_l"
    VIT_H = "vit_h"


def export(
    model: Annotated[Model, typer.Option(help="MobileSAM, or one of Meta's.")] = Model.MOBILE,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Meta's checkpoint of vit_b, vit_l or vit_h; MobileSAM brings its own weights.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Model repository to write.", file_okay=False)
    ] = DEFAULT_REPOSITORY,
) -> None:
    """Export SAM to ONNX, check it against PyTorch, write a model repository."""
    need_extra("export", "torch", "segment_anything", "onnx", "onnxscript", "onnxruntime")
    from sam_refine_export import ExportError

    with errors_in_one_line(ExportError, OSError):
        run_export(model.value, checkpoint, output)
    stdout.print(f"{output}", soft_wrap=True)


def run_export(model: str, checkpoint: Path | None, output: Path) -> None:
    """Export, showing each step as it starts."""
    from sam_refine_export import export_repository

    with stderr.status("exporting") as status:

        def show(step: str) -> None:
            stderr.print(f"  {step}")
            status.update(step)

        export_repository(output, model=model, checkpoint=checkpoint, on_step=show)
