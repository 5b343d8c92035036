"""The coarse maps of images, from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_refine_client.embedding import Embedding
from sam_refine_client.inputs.files import load_array, load_labels
from sam_refine_client.inputs.images import ImageFile


@dataclass(frozen=True)
class CoarseMaps:
    """Where the coarse maps of images are: files, or folders of files of the images' names."""

    logits: Path
    """Class scores, or a network's raw output, (C, h, w): .npy."""
    labels: Path | None = None
    """Maps (H, W) where they are not the argmax of the scores: .npy or .png."""
    embedding: Path | None = None
    """What `Embedding.save` wrote, instead of the images: .npz."""
    activation: str | None = None
    """What makes scores of raw output: a value of the client's `Activation`."""
    image_id: str | None = None
    """The caller's name of the image, where it is one."""

    def job(self, image: ImageFile) -> dict[str, Any]:
        """The arguments of the client's `refine`. Raises `InvalidRequestError`, `OSError`."""
        job: dict[str, Any] = {"logits": load_array(image.companion(self.logits, (".npy",)))}
        if self.labels is not None:
            job["labels"] = load_labels(image.companion(self.labels, (".npy", ".png")))
        if self.embedding is None:
            job["image"] = image.path
        else:
            job["embedding"] = Embedding.load(image.companion(self.embedding, (".npz",)))
        if self.activation is not None:
            job["activation"] = self.activation
        if self.image_id is not None:
            job["image_id"] = self.image_id
        return job
