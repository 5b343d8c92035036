"""Images with class scores and truth, in memory or in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sam_refine_client.inputs.coarse_maps import CoarseMaps
from sam_refine_client.inputs.images import ImageFile, find_images
from sam_refine_client.reading.images import ImageLike
from sam_refine_client.reading.labels import LABEL_SUFFIXES, load_labels
from sam_refine_client.reading.notes import Notes


@dataclass(frozen=True, eq=False)
class Sample:
    """One labelled image."""

    name: str
    image: ImageLike
    """As the client's `refine` takes it."""
    logits: Any
    """Class scores as the client's `refine` takes them; None where there are labels alone."""
    truth: npt.NDArray[np.integer[Any]]
    """(H, W) class ids in [0, C), or the label of void."""
    labels: Any = None
    """The coarse map, where it is not the argmax of the scores, or where there are none."""
    activation: str | None = None
    """What makes scores of raw output: a value of the client's `Activation`."""
    truth_name: str = "truth"
    """What errors of the truth begin with: its file, where it has one."""
    palette: Any = None
    """The colours of labels that are coloured."""
    warnings: tuple[str, ...] = ()
    """What was doubtful about the truth's file."""
    truth_void: int | None = None
    """The truth's label of void, where its colours say it."""


@dataclass(frozen=True)
class SampleFiles:
    """One labelled image that is read when its turn comes."""

    image: ImageFile
    coarse_maps: CoarseMaps
    truth: Path
    """Its truth, .npy or .png; or the folder that has the one of its stem."""

    @property
    def name(self) -> str:
        return str(self.image.path)

    def read(self) -> Sample:
        """All of it but the image itself. Raises `InvalidRequestError`, `OSError`."""
        job, notes = self.coarse_maps.job(self.image), Notes()
        truth = self.image.companion(self.truth, LABEL_SUFFIXES)
        palette, name = self.coarse_maps.palette, self.image.path.name
        read = load_labels(truth, notes, palette=palette, image_name=name)
        return Sample(
            self.name,
            self.image.path,
            job.get("logits"),
            read.values,
            job.get("labels"),
            job.get("activation"),
            str(truth),
            palette,
            notes.sentences,
            read.void,
        )


AnySample: TypeAlias = Sample | SampleFiles


def find_samples(
    images: Path,
    logits: Path | None,
    truth: Path,
    *,
    labels: Path | None = None,
    activation: str | None = None,
    palette: Any = None,
    limit: int | None = None,
    recursive: bool = False,
    cut_suffix: str = "",
    listed: bool = False,
) -> Sequence[SampleFiles]:
    """The first `limit` labelled images of a folder, by name, or the one image with its files.

    `logits/street.npy`, `truth/street.png` and, if there are `labels`, `labels/street.png` go with
    `images/street.jpg`, in any of the forms that the client reads; `recursive`, `cut_suffix` and
    `listed` are those of `find_images`, and each place may be a pattern of `ImageFile.companion`.
    Whether they are there is seen when each is read. Raises `InvalidRequestError` where there is no
    image.
    """
    coarse_maps = CoarseMaps(logits, labels, activation=activation, palette=palette)
    found = find_images(images, recursive=recursive, cut_suffix=cut_suffix, listed=listed)
    return [SampleFiles(image, coarse_maps, truth) for image in found[:limit]]
