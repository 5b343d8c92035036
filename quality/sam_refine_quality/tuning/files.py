"""What `tune` writes: the judge, a preset that uses it, and a card that says what it is worth."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from sam_refine_client.files.whole_files import write_whole
from sam_refine_quality.tuning.judge_onnx import judge_graph
from sam_refine_quality.tuning.tune import Tuned, to_json

JUDGE_NAME: Final = "judge.onnx"
PRESET_NAME: Final = "preset.json"
CARD_NAME: Final = "card.json"
_DISTRIBUTIONS: Final = ("sam-refine", "scikit-learn", "skl2onnx", "onnx", "numpy")


def write_tuned(tuned: Tuned, directory: Path) -> tuple[Path, ...]:
    """Write judge.onnx, preset.json and card.json into a directory, which is made; their paths.

    All or none appear. Raises `OSError` where they cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    graph = judge_graph(tuned.judge).SerializeToString()
    sha256 = hashlib.sha256(graph).hexdigest()
    preset = {
        "options": tuned.options.to_parameters(),
        "judge_sha256": sha256,
        "recommended": tuned.is_recommended,
        "doubts": list(tuned.doubts),
    }
    card = {
        **to_json(tuned),
        "judge_sha256": sha256,
        "classes": list(tuned.class_names),
        "versions": {name: version(name) for name in _DISTRIBUTIONS},
        "data": [
            {"image": name, "scores_and_truth_sha256": tuned.digests[name]} for name in tuned.names
        ],
    }
    contents = {
        JUDGE_NAME: graph,
        PRESET_NAME: _json(preset),
        CARD_NAME: _json(card),
    }
    paths = {directory / name: content for name, content in contents.items()}
    write_whole(paths)
    return tuple(paths)


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode("utf-8")
