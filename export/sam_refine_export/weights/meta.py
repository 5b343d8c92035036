"""Meta's SAM checkpoints: where they lie and how to know them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sam_refine_export.errors import ExportError
from sam_refine_export.repository.model_card import Source

_LICENCE: Final = "Apache-2.0"
_ADDRESS: Final = "https://dl.fbaipublicfiles.com/segment_anything"


@dataclass(frozen=True)
class OfficialCheckpoint:
    """One published file."""

    file_name: str
    url: str
    sha256: str
    size_bytes: int
    licence: str


OFFICIAL: Final[Mapping[str, OfficialCheckpoint]] = {
    "vit_b": OfficialCheckpoint(
        file_name="sam_vit_b_01ec64.pth",
        url=f"{_ADDRESS}/sam_vit_b_01ec64.pth",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        size_bytes=375_042_383,
        licence=_LICENCE,
    ),
    "vit_l": OfficialCheckpoint(
        file_name="sam_vit_l_0b3195.pth",
        url=f"{_ADDRESS}/sam_vit_l_0b3195.pth",
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        size_bytes=1_249_524_607,
        licence=_LICENCE,
    ),
    "vit_h": OfficialCheckpoint(
        file_name="sam_vit_h_4b8939.pth",
        url=f"{_ADDRESS}/sam_vit_h_4b8939.pth",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        size_bytes=2_564_550_879,
        licence=_LICENCE,
    ),
}
"""By model."""


def source_of(checkpoint: Path, sha256: str) -> Source:
    """What the model card says of a checkpoint file with this checksum.

    An official one is known by its checksum and goes by its official name, whatever it is called.
    """
    for official in OFFICIAL.values():
        if official.sha256 == sha256:
            name = f"{official.file_name} (Meta's official checkpoint)"
            return Source(name, official.licence, {official.file_name: sha256})
    return Source(checkpoint.name, None, {checkpoint.name: sha256})


def require_intact(checkpoint: Path, sha256: str) -> None:
    """Raise `ExportError` where a file has an official name but, by its checksum, other content.

    torch loads a checkpoint with damaged parameters without a word.
    """
    for official in OFFICIAL.values():
        if official.file_name == checkpoint.name and official.sha256 != sha256:
            raise ExportError(
                f"{checkpoint} is named like Meta's checkpoint but has the sha256 {sha256}, "
                f"expected {official.sha256}: it is damaged or another file; "
                "rename it if that is meant"
            )
