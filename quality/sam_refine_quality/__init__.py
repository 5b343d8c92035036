"""Is the refined map better than the coarse one, on labelled data? `evaluate` says it.

with RefineClient("127.0.0.1:8001") as client:
    samples = find_samples(Path("images"), Path("scores"), Path("truth"))
    evaluation = evaluate(client, samples, ignore_label=255)
"""

from sam_refine_quality.data.option_sets import read_option_sets
from sam_refine_quality.data.samples import Sample, SampleFiles, find_samples
from sam_refine_quality.evaluation import ImageOutcome, Refined, evaluate
from sam_refine_quality.result import (
    Evaluation,
    ImageEvaluation,
    PairFigures,
    SetEvaluation,
    SetImage,
)

__all__ = [
    "Evaluation",
    "ImageEvaluation",
    "ImageOutcome",
    "PairFigures",
    "Refined",
    "Sample",
    "SampleFiles",
    "SetEvaluation",
    "SetImage",
    "evaluate",
    "find_samples",
    "read_option_sets",
]
