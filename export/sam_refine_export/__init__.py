"""SAM's networks to ONNX, checked against PyTorch and placed into a repository for Triton.

`pipeline.export_repository` is the whole flow. Importing this package imports no torch.
"""

from sam_refine_export.errors import ExportError
from sam_refine_export.options import Device, ExportOptions, Precision
from sam_refine_export.pipeline import export_repository, is_current
from sam_refine_export.repository.inspection import Inspection, inspect_repository
from sam_refine_export.repository.judge import add_judge
from sam_refine_export.repository.model_card import ModelCard
from sam_refine_export.variants import Model

__all__ = [
    "Device",
    "ExportError",
    "ExportOptions",
    "Inspection",
    "Model",
    "ModelCard",
    "Precision",
    "add_judge",
    "export_repository",
    "inspect_repository",
    "is_current",
]
