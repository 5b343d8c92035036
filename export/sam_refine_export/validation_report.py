"""What came of holding exported graphs against the contract and PyTorch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ValueCheck:
    """One output of one run against its reference."""

    model: str
    output: str
    case: str
    max_difference: float
    """Infinite where the output has another shape or is not finite."""
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.max_difference < self.tolerance


@dataclass(frozen=True)
class ValidationReport:
    """All that was found."""

    interface: tuple[str, ...]
    """One sentence for each mismatch with the contract."""
    values: tuple[ValueCheck, ...]
    """Empty where the interface is wrong: then no values are looked at."""

    @property
    def mismatches(self) -> tuple[str, ...]:
        """One sentence for each thing that is wrong; none if the export passed."""
        return self.interface + tuple(
            f"{check.model}: {check.output} differs by up to {check.max_difference:.2g} from "
            f"PyTorch, allowed is {check.tolerance:g} ({check.case})"
            for check in self.values
            if not check.passed
        )
