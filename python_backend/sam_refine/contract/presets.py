"""Named sets of request options, for callers who do not want to choose each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PRESETS: Final[Mapping[str, Mapping[str, str | int | float]]] = MappingProxyType(
    {
        "published": MappingProxyType({"failed_regions": "scores_only", "min_region_area": 225}),
        "safe": MappingProxyType(
            {"judge": "rule", "min_gain": 0.1, "iou_threshold": 0.7, "min_region_area": 25}
        ),
        "judged": MappingProxyType(
            {"judge": "learned", "iou_threshold": 0.7, "min_region_area": 25}
        ),
    }
)
"""Request options by name."""
PRESET_HELP: Final[Mapping[str, str]] = MappingProxyType(
    {
        "published": "as in the paper's code",
        "safe": "weighs SAM against your network, pixel by pixel",
        "judged": "by a judge that the server has learned",
    }
)
"""What each of them does, in a few words."""
