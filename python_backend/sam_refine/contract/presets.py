"""Named sets of request options, for callers who do not want to choose each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

PRESETS: Final[Mapping[str, Mapping[str, str | int | float]]] = MappingProxyType(
    {
        "published": MappingProxyType({"failed_regions": "scores_only", "min_region_area": 225}),
        "safe": MappingProxyType({"judge": "rule", "min_gain": 0.1, "min_region_area": 25}),
        "judged": MappingProxyType({"judge": "learned", "min_region_area": 25}),
    }
)
"""Request options by name.

`published`: as the published code has it. `safe`: by a fixed rule that measured better than the
coarse map on every kind of map. `judged`: by the judge that the repository has.
"""
