"""The coarse maps of images, from files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_refine.contract import InvalidRequestError
from sam_refine_client.embedding import Embedding
from sam_refine_client.inputs.images import ImageFile, files_named, is_hidden
from sam_refine_client.reading.coco import dataset_of
from sam_refine_client.reading.labels import LABEL_SUFFIXES, LabelsLike
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

    def files(self, image: ImageFile) -> list[Path]:
        """The image, and what goes with it. Raises `InvalidRequestError`."""
        files = [image.path] if self.embedding is None else []
        if self.logits is not None:
            files.append(image.companion(self.logits, SCORE_SUFFIXES))
        if self.embedding is not None:
            files.append(image.companion(self.embedding, (".npz",)))
        if self.labels is not None:
            files += _label_files(image, self.labels)
        return files

    def job(self, image: ImageFile) -> dict[str, Any]:
        """The arguments of the client's `refine`. Raises `InvalidRequestError`, `OSError`."""
        job: dict[str, Any] = {}
        if self.logits is not None:
            job["logits"] = load_array(image.companion(self.logits, SCORE_SUFFIXES))
        if self.labels is not None:
            job["labels"] = labels_of(image, self.labels)
        if self.embedding is None:
            job["image"] = image.path
        else:
            job["embedding"] = Embedding.load(image.companion(self.embedding, (".npz",)))
        for name in ("activation", "image_id", "palette"):
            if getattr(self, name) is not None:
                job[name] = getattr(self, name)
        return job


def labels_of(image: ImageFile, place: Path) -> LabelsLike:
    """The label map that goes with an image: in a file or a folder, of COCO, or by class.

    In a folder of folders, one for each class, they are masks. Raises `InvalidRequestError`.
    """
    if _has_masks(image, place):
        return _masks_of(image, _inside(place))
    path = image.companion(place, LABEL_SUFFIXES)
    if path.suffix.lower() != ".json":
        return path
    if path == place and not image.has_own_stem:
        raise InvalidRequestError(
            f"{place} has images by their file names, and {image.path.name} is in several folders; "
            "refine each folder by itself"
        )
    return dataset_of(path, image.path.name)


def _label_files(image: ImageFile, place: Path) -> list[Path]:
    if not _has_masks(image, place):
        return [image.companion(place, LABEL_SUFFIXES)]
    return [mask for mask in _masks_of(image, _inside(place)).values() if mask is not None]


def _has_masks(image: ImageFile, place: Path) -> bool:
    """Whether folders within a folder are of classes, and not the image's own."""
    return _has_class_folders(place) and not image.folder


def _inside(place: Path) -> list[Path]:
    return sorted(each for each in place.iterdir() if not is_hidden(each.name))


def _has_class_folders(place: Path) -> bool:
    """Whether a folder has nothing but folders."""
    inside = _inside(place) if place.is_dir() else []
    return bool(inside) and all(each.is_dir() for each in inside)


def _masks_of(image: ImageFile, folders: list[Path]) -> dict[int | str, Path | None]:
    """A mask by class, None where the class has none of the image; by ids if all are numbers."""
    has_ids = all(folder.name.isdecimal() for folder in folders)
    masks: dict[int | str, Path | None] = {}
    for folder in folders:
        names = dict.fromkeys((image.name, image.stem))
        found = [path for name in names for path in files_named(folder, name, LABEL_SUFFIXES)]
        masks[int(folder.name) if has_ids else folder.name] = found[0] if found else None
    if not any(masks.values()):
        raise InvalidRequestError(
            f"{folders[0].parent} must have a mask of {image.stem} in a folder of a class, got none"
        )
    return masks
