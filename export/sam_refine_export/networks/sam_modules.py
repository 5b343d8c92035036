"""segment-anything's network classes, without what its package pulls in for the predictor.

`import segment_anything` runs an `__init__` that imports the predictor and with it torchvision,
which the networks do not need and which has no build for every platform that torch has. This is
the one place that works around it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any, TypeAlias

from sam_refine_export.errors import ExportError

SamModule: TypeAlias = Any
"""A module of segment-anything's classes, which carry no types."""


def _import_networks() -> tuple[ModuleType, ModuleType]:
    """`segment_anything.modeling` and `segment_anything.build_sam`.

    Without torchvision the package itself is put into `sys.modules` unexecuted: an empty parent
    with the right `__path__`, under which the two modules import as usual.
    """
    try:
        importlib.import_module("segment_anything")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise ExportError(
                f"the export needs {error.name}: pip install 'sam-refine[export]'"
            ) from error
        spec = importlib.util.find_spec("segment_anything")
        assert spec is not None  # it was found, and failed while it ran
        sys.modules["segment_anything"] = importlib.util.module_from_spec(spec)
    return (
        importlib.import_module("segment_anything.modeling"),
        importlib.import_module("segment_anything.build_sam"),
    )


modeling, build_sam = _import_networks()
