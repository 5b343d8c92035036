"""One image, or those of a folder, and what goes with each, found by its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sam_refine.contract import InvalidRequestError

IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class ImageFile:
    """An image and the directory or stem of what is written for it."""

    path: Path
    is_of_folder: bool
    """Whether it is one of many: then what goes with it is found by its stem."""

    @property
    def stem(self) -> str:
        return self.path.stem

    def companion(self, place: Path, suffixes: tuple[str, ...]) -> Path:
        """The file that goes with it: `place` itself, or the one of its stem in that folder.

        Raises `InvalidRequestError` where there is none, or more than one.
        """
        if not place.is_dir():
            return place
        found = [path for suffix in suffixes if (path := place / f"{self.stem}{suffix}").is_file()]
        if len(found) != 1:
            names = " or ".join(f"{self.stem}{suffix}" for suffix in suffixes)
            raise InvalidRequestError(
                f"{place} must have {names}, got {', '.join(each.name for each in found) or 'none'}"
            )
        return found[0]


def find_images(path: Path) -> list[ImageFile]:
    """The image, or the pictures of a folder, by name; those of its folders are not seen.

    Raises `InvalidRequestError` where a folder has none, or two of one stem, or a stem that names a
    folder itself.
    """
    if not path.is_dir():
        return [ImageFile(path, False)]
    found = sorted(
        each for each in path.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES and each.is_file()
    )
    if not found:
        raise InvalidRequestError(f"{path} has no image: {', '.join(IMAGE_SUFFIXES)}")
    by_stem: dict[str, Path] = {}
    for each in found:
        if each.stem in (".", ".."):  # its results would go elsewhere
            raise InvalidRequestError(
                f"{path} must have images with a name before the ending, got {each.name}"
            )
        if (other := by_stem.setdefault(each.stem, each)) is not each:
            raise InvalidRequestError(
                f"{path} must have one image of a name, got {other.name} and {each.name}"
            )
    return [ImageFile(each, True) for each in found]
