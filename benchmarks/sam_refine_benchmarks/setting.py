"""What every benchmark is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Setting:
    """How, and on which export, to measure."""

    model_repository: Path
    """MobileSAM's current export."""
    scratch: Path
    """For what is made once and kept between runs."""
    quick: bool = False
    """Smaller inputs and few repeats: does it still work, and is it of the right order?"""

    def budget_s(self, full: float, quick: float) -> float:
        """Seconds for one comparison."""
        return quick if self.quick else full
