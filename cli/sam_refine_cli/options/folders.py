"""What goes with a folder of images is a folder, too."""

from __future__ import annotations

from pathlib import Path

from sam_refine.contract import InvalidRequestError


def check_folders(image: Path, **places: Path | None) -> None:
    """Raise `InvalidRequestError` where `image` is a folder and one of `places` is a file.

    A place goes by the name of its option. A file of COCO has what goes with all of them.
    """
    if not image.is_dir():
        return
    for name, place in places.items():
        if place is not None and not place.is_dir() and place.suffix.lower() != ".json":
            raise InvalidRequestError(
                f"{image} is a folder, so --{name} must be one, too, got the file {place}"
            )
