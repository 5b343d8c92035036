"""SAM's networks to ONNX, checked against PyTorch and placed into a repository for Triton.

`pipeline.export_repository` is the whole flow. Importing this package imports no torch.
"""

from sam_refine_export.errors import ExportError
from sam_refine_export.model_card import ModelCard
from sam_refine_export.pipeline import MODELS, export_repository, is_current

__all__ = ["MODELS", "ExportError", "ModelCard", "export_repository", "is_current"]
