"""A judge of masks in a repository: what `sam-refine tune` wrote becomes one of its models."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from sam_refine.contract import MOST_CHANGES, MOST_MASKS, SAM_MASK_JUDGE
from sam_refine_export.errors import ExportError
from sam_refine_export.repository.inspection import inspect_repository
from sam_refine_export.repository.model_card import ModelCard
from sam_refine_export.repository.repository import finished
from sam_refine_export.repository.template import template

JUDGE_ONNX: Final = "judge.onnx"
"""What `sam-refine tune` calls it."""


def add_judge(repository: Path, directory: Path) -> ModelCard:
    """Put the judge of a directory that `sam-refine tune` wrote into an exported repository.

    One that is there already is replaced; the new one is given bounds. Returns the repository's
    card, which has it then. Raises `ExportError` where one of the two is something else, or the
    repository was changed since its export.
    """
    from sam_refine_export.validation.validate import check_interface  # imports torch

    judge = directory / JUDGE_ONNX
    if not judge.is_file():
        raise ExportError(f"{directory} has no {JUDGE_ONNX}: `sam-refine tune` makes it")
    try:
        mismatches = check_interface(judge, SAM_MASK_JUDGE)
    except Exception as error:  # protobuf's own, of whatever the file is
        raise ExportError(f"{judge} must be an ONNX graph: {error}") from error
    if mismatches:
        raise ExportError(f"{judge} is of another version: {'; '.join(mismatches)}; tune again")
    inspection = inspect_repository(repository)
    if not inspection.matches_card:
        raise ExportError(f"{repository} was changed since its export: export again")
    target = repository / SAM_MASK_JUDGE.name
    with tempfile.TemporaryDirectory(dir=repository.parent, prefix=".judge-") as scratch:
        fresh = Path(scratch) / SAM_MASK_JUDGE.name
        (fresh / "1").mkdir(parents=True)
        shutil.copyfile(template() / SAM_MASK_JUDGE.name / "config.pbtxt", fresh / "config.pbtxt")
        shutil.copyfile(judge, fresh / "1" / "model.onnx")
        _bound(fresh / "1" / "model.onnx")
        if target.exists():
            target.rename(Path(scratch) / "old")
        fresh.rename(target)
    card = replace(inspection.card, files=finished(repository))
    card.write(repository)
    return card


def _bound(judge_onnx: Path) -> None:
    """Write into a judge's graph that it takes no more than the pipeline sends."""
    from sam_refine_export.graphs.bounds import Bound, Finite, add_bounds  # imports onnx

    masks, changes = SAM_MASK_JUDGE.input_names
    add_bounds(
        judge_onnx,
        (
            Bound(masks, 0, MOST_MASKS, axis=0),
            Bound(changes, 0, MOST_CHANGES, axis=0),
            Finite(masks, allows_nan=True),
            Finite(changes, allows_nan=True),
        ),
    )
