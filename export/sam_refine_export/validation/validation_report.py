"""The result of checking exported graphs against the contract and their references."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ValueCheck:
    """One output of one run against its reference."""

    model: str
    output: str
    reference: str
    """What computed the right values: PyTorch, or a published graph."""
    case: str
    max_difference: float
    """Infinite where the output has another shape or is not finite."""
    tolerance: float
    """The largest `max_difference` that is allowed."""
    rms_difference: float
    """Root mean square of the differences; infinite where `max_difference` is."""
    rms_tolerance: float
    """The largest `rms_difference` that is allowed."""

    @property
    def passed(self) -> bool:
        """Whether both differences are allowed; one that is not a number is not."""
        return self.max_difference <= self.tolerance and self.rms_difference <= self.rms_tolerance


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
            f"{check.model}: {check.output} differs by up to {check.max_difference:.2g} and by "
            f"{check.rms_difference:.2g} in the root mean square from {check.reference}, allowed "
            f"are {check.tolerance:.2g} and {check.rms_tolerance:.2g} ({check.case})"
            for check in self.values
            if not check.passed
        )
