"""Which job an output folder belongs to: written once, by whoever comes first."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sam_refine_bulk.errors import OtherJobError
from sam_refine_bulk.inputs.samples import fingerprint_of
from sam_refine_bulk.inputs.source import Source
from sam_refine_bulk.outputs.disk import Disk, read_record, to_bytes
from sam_refine_bulk.outputs.layout import Layout

FORMAT: Final = 1


@dataclass(frozen=True)
class Manifest:
    """All that decides what the results are, and where they come from."""

    source: Source
    shards: tuple[str, ...]
    inventory: str
    """The digest of what is in them, as far as names tell: the images of a folder."""
    options: Mapping[str, Any]
    """Parameters of each request, as `RefineOptions.to_parameters` has them."""
    activation: str | None
    palette: str | None
    model: Mapping[str, Any]
    """What refines: the digest of the model card where that is known; else the server's version,
    and the checksum of its networks where it says that."""
    version: str
    """Of sam-refine."""

    @property
    def job(self) -> str:
        """The digest of what must be equal for two runs to be one job.

        Not the path of the input: the same data set may be mounted elsewhere.
        """
        facts = self._facts()
        del facts["source"]
        return fingerprint_of([json.dumps(facts, sort_keys=True)])

    def _facts(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "source": self.source.to_json(),
            "shards": list(self.shards),
            "inventory": self.inventory,
            "options": dict(self.options),
            "activation": self.activation,
            "palette": self.palette,
            "model": dict(self.model),
            "version": self.version,
        }

    def claim(self, layout: Layout, disk: Disk) -> None:
        """Make the folder this job's, or see that it is. Raises `OtherJobError`, `OutputError`."""
        if not layout.manifest.exists():
            strangers = [each.name for each in _children(layout.root) if each != layout.private]
            if strangers:
                raise OtherJobError(
                    f"{layout.root} has files of something else ({strangers[0]}): give the job an "
                    "empty folder"
                )
            aside = layout.private / f"manifest-{uuid.uuid4().hex}"
            disk.write(aside, [to_bytes(self._facts())])
            disk.link(aside, layout.manifest)
        found = load(layout)
        if found.job != self.job:
            raise _other_job(layout, found, self)

    def check_model(self, layout: Layout, fact: str, model: Mapping[str, Any]) -> None:
        """Raise `OtherJobError` where a fact that the job's model has is another one now."""
        if fact in self.model and model.get(fact) != self.model[fact]:
            before, now = ({fact: facts.get(fact)} for facts in (self.model, model))
            raise _other_job(layout, replace(self, model=before), replace(self, model=now))


def load(layout: Layout) -> Manifest:
    """The job of a folder. Raises `OtherJobError` where it has none that can be read."""
    facts = read_record(layout.manifest)
    if facts is None or facts.get("format") != FORMAT:
        raise OtherJobError(f"{layout.root} is no output of this version's `sam-refine bulk`")
    return Manifest(
        Source(**facts["source"]),
        tuple(facts["shards"]),
        facts["inventory"],
        facts["options"],
        facts["activation"],
        facts["palette"],
        facts["model"],
        facts["version"],
    )


def _children(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else []


def _other_job(layout: Layout, there: Manifest, here: Manifest) -> OtherJobError:
    return OtherJobError(
        f"{layout.root} belongs to another job: {'; '.join(_differences(there, here))}; "
        "give this one a folder of its own"
    )


def _differences(there: Manifest, here: Manifest) -> list[str]:
    """In words, the first few."""
    found = []
    for name in ("options", "model"):
        old, new = dict(getattr(there, name)), dict(getattr(here, name))
        found += [
            f"{key} was {old.get(key)!r:.60}, is {new.get(key)!r:.60}"
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        ]
    for name in ("activation", "palette", "version"):
        if getattr(there, name) != getattr(here, name):
            found.append(f"{name} was {getattr(there, name)}, is {getattr(here, name)}")
    found += _input_differences(there.shards, here.shards)
    if not found and there.inventory != here.inventory:
        found.append("the input has other images than it had")
    return found[:3]


def _input_differences(old: Sequence[str], new: Sequence[str]) -> list[str]:
    more, fewer = sorted({*new} - {*old}), sorted({*old} - {*new})
    return [
        *([f"the input has {len(more)} more shards ({more[0]})"] if more else []),
        *([f"the input lacks {len(fewer)} shards ({fewer[0]})"] if fewer else []),
    ]
