"""The coarse maps of images, from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_refine_client.embedding import Embedding
from sam_refine_client.inputs.images import ImageFile
from sam_refine_client.reading.labels import LABEL_SUFFIXES
from sam_refine_client.reading.palettes import PaletteLike
from sam_refine_client.reading.score_files import SCORE_SUFFIXES, load_array


@dataclass(frozen=True)
class CoarseMaps:
    """Where the coarse maps of images are: files, or folders of files of the images' names."""

    logits: Path | None = None
    """Class scores, or a network's raw output, (C, h, w)."""
    labels: Path | None = None
    """Maps (H, W) where they are not the argmax of the scores, or where there are none."""
    embedding: Path | None = None
    """What `Embedding.save` wrote, instead of the images: .npz."""
    activation: str | None = None
    """What makes scores of raw output: a value of the client's `Activation`."""
    image_id: str | None = None
    """The caller's name of the image, where it is one."""
    palette: PaletteLike | None = None
    """The colours of coloured label maps."""

    def job(self, image: ImageFile) -> dict[str, Any]:
        """The arguments of the client's `refine`. Raises `InvalidRequestError`, `OSError`."""
        job: dict[str, Any] = {}
        if self.logits is not None:
            job["logits"] = load_array(image.companion(self.logits, SCORE_SUFFIXES))
        if self.labels is not None:
            job["labels"] = image.companion(self.labels, LABEL_SUFFIXES)
        if self.embedding is None:
            job["image"] = image.path
        else:
            job["embedding"] = Embedding.load(image.companion(self.embedding, (".npz",)))
        for name in ("activation", "image_id", "palette"):
            if getattr(self, name) is not None:
                job[name] = getattr(self, name)
        return job
