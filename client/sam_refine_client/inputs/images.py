"""One image, or those of a folder, and what goes with each, found by its name."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from sam_refine.contract import InvalidRequestError
from sam_refine_client.inputs.huggingface import image_lists

IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")

UNREAD_SUFFIXES: Final = (
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".jfif", ".gif", ".psd", ".svg"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".exr", ".hdr"),
    *(".ppm", ".pgm", ".pnm", ".tga", ".dcm"),
)
"""Pictures, and photos as cameras keep them, that are left out of folders."""
_OF_SYSTEMS: Final = (
    "__MACOSX",
    "@eaDir",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
)
"""Folders of macOS, Synology, Windows and Linux, which have what passes for images."""
_MOST_SHOWN: Final = 3


@dataclass(frozen=True)
class ImageFile:
    """An image, and the name by which what goes with it, and its results, are found."""

    path: Path
    is_of_folder: bool
    """Whether it is one of many: then what goes with it is found by its name."""
    folder: str = ""
    """Its folder within the one that was searched: "aachen"; "" for that one itself."""
    cut_suffix: str = ""
    """The end of its stem that other files do not have: "_leftImg8bit"."""
    has_own_stem: bool = True
    """Whether no other folder has an image of its stem; else a stem alone finds nothing of it."""
    label: str = ""
    """Its label map below the folder that was searched, without the ending, where a list has it."""

    @property
    def stem(self) -> str:
        """Its file name without the ending, and without what is cut."""
        return self.path.stem.removesuffix(self.cut_suffix)

    @property
    def name(self) -> str:
        """Its stem with the folder before it: "aachen/aachen_000000_000019"."""
        return f"{self.folder}/{self.stem}" if self.folder else self.stem

    def companion(self, place: Path, suffixes: tuple[str, ...]) -> Path:
        """The file that goes with it: `place` itself, or the one of its name in that folder.

        In a folder it lies as the image does in its own, or beside all others. `place` may also be
        a pattern, in which {stem}, {folder} and {name} stand for the image's, and {label} for what
        a list has. Raises `InvalidRequestError` where there is none, or more than one.
        """
        if is_pattern(place):
            return self._of_pattern(place)
        if not place.is_dir():
            return place
        names = dict.fromkeys((self.name, self.stem) if self.has_own_stem else (self.name,))
        found: list[Path] = []
        for name in names:
            found = files_named(place, name, suffixes)
            if len(found) == 1:
                return found[0]
            if found:
                break
        wanted = " or ".join(f"{self.name}{suffix}" for suffix in suffixes)
        hint = "" if found else self._said_of_others(place, list(names), suffixes)
        there = ", ".join(each.name for each in found) or "none"
        raise InvalidRequestError(f"{place} must have {wanted}, got {there}{hint}")

    def _said_of_others(self, place: Path, names: list[str], suffixes: tuple[str, ...]) -> str:
        """What of similar names is there, and the pattern that finds it."""
        for name in names:
            folder, stem = (place / name).parent, Path(name).name
            links = [path for each in suffixes if (path := folder / f"{stem}{each}").is_symlink()]
            if links:
                return f"; {links[0].name} is a link to a file that is not there"
            there = [
                each
                for found in (_names_in(folder).values() if folder.is_dir() else ())
                for each in found
                if Path(each).suffix.lower() in suffixes
            ]
            same = [each for each in there if Path(each).stem.casefold() == stem.casefold()]
            if same:
                return f"; it has {same[0]}, whose name is of another case: rename it to {stem}"
            cut = next((stem[at:] for at in range(len(stem) - 1, 0, -1) if stem[at] in "_-."), "")
            for own, option in ((stem, ""), (stem.removesuffix(cut), f" and --cut-suffix {cut}")):
                similar = sorted(
                    each
                    for each in there
                    if each.startswith(own) and not each[len(own) :][:1].isalnum()
                )
                if own and similar:
                    key = "{name}" if "/" in name else "{stem}"
                    shown = ", ".join(similar[:_MOST_SHOWN])
                    more = ", ..." if len(similar) > _MOST_SHOWN else ""
                    pattern = f"'{place}/{key}{similar[0][len(own) :]}'"
                    return (
                        f"; it has {shown}{more}, which a pattern finds, such as {pattern}{option}"
                    )
        return ""

    def _of_pattern(self, place: Path) -> Path:
        try:
            names = {"stem": self.stem, "folder": self.folder, "name": self.name}
            path = Path(str(place).format(**names, label=self.label))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise InvalidRequestError(
                f"{place} may have {{stem}}, {{folder}} and {{name}} in it and nothing else in "
                f"braces, got {error}"
            ) from error
        needed = ("{stem}", "{name}") if self.has_own_stem else ("{folder}", "{name}")
        if self.is_of_folder and not any(each in str(place) for each in (*needed, "{label}")):
            raise InvalidRequestError(
                f"{place} is the same file for several images, such as {self.path}; it must have "
                f"{' or '.join(needed)} in it"
            )
        if not path.is_file():
            same = files_named(path.parent, path.stem, (path.suffix.lower(),))
            if len(same) == 1:
                return same[0]
            raise InvalidRequestError(f"{self.path} must have {path} beside it, got none")
        return path


def files_named(folder: Path, name: str, suffixes: tuple[str, ...]) -> list[Path]:
    """The files below a folder of a name and one of some endings, in any case.

    Names are the same in all forms of Unicode: macOS writes an accent as a letter of its own.
    """
    endings = dict.fromkeys(each for suffix in suffixes for each in (suffix, suffix.upper()))
    paths = [path for each in endings if (path := folder / f"{name}{each}").is_file()]
    if not paths and (own := (folder / name).parent).is_dir():
        same = _names_in(own)
        stem = unicodedata.normalize("NFC", Path(name).name)
        paths = [own / each for suffix in suffixes for each in same.get(f"{stem}{suffix}", ())]
    # One file has two names where the file system does not tell cases apart.
    return list({(path.stat().st_dev, path.stat().st_ino): path for path in paths}.values())


def _names_in(folder: Path) -> dict[str, list[str]]:
    """The files of a folder by their name in one form of Unicode, endings in lower case."""
    return _names_at(folder, folder.stat().st_mtime_ns)


@lru_cache(maxsize=8)  # as many folders as are asked about in turns
def _names_at(folder: Path, changed_ns: int) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file():
                name = Path(unicodedata.normalize("NFC", entry.name))
                names.setdefault(f"{name.stem}{name.suffix.lower()}", []).append(entry.name)
    return names


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that systems put beside those of people."""
    return name.startswith(".") or name in _OF_SYSTEMS


def is_pattern(place: Path) -> bool:
    """Whether a place names the files of all images at once: "scores/{stem}_scores.npy"."""
    return "{" in str(place) and not place.exists()


def find_images(
    path: Path, *, recursive: bool = False, cut_suffix: str = "", listed: bool = False
) -> list[ImageFile]:
    """The image, or the pictures of a folder, by name; `recursive`: of its folders, too.

    `listed`: those of its `image_lists`.

    Hidden files and folders are none, such as what macOS puts beside each file ("._street.jpg", and
    in archives the folder "__MACOSX").
    With a `cut_suffix` only images whose stem ends so are found. Raises `InvalidRequestError` where
    a folder has none, or two of one name, or a stem that names a folder itself.
    """
    if not path.is_dir():
        return [ImageFile(path, False, cut_suffix=cut_suffix)]
    labels: dict[Path, str] = {}
    if listed:
        lists = image_lists(path)
        labels = {each.image: each.label for one in lists for each in one.images(path)}
        if not labels:
            names = ", ".join(str(one.path) for one in lists)
            raise InvalidRequestError(f"{names} must list images, got none")
    files = labels or (each for each in _files(path, recursive=recursive) if _is_image(each))
    images = [
        ImageFile(each, True, _folder_of(each, path), cut_suffix, label=labels.get(each, ""))
        for each in sorted(files)
        if each.stem.endswith(cut_suffix)
    ]
    if not images:
        kinds = ", ".join(f"*{cut_suffix}{suffix}" for suffix in IMAGE_SUFFIXES)
        inside = "" if recursive else _hint(path)
        left_out = said_of_left_out(path, recursive=recursive, cut_suffix=cut_suffix)
        others = f"; {left_out}" if left_out else ""
        raise InvalidRequestError(f"{path} has no image: {kinds}{inside}{others}")
    by_name: dict[str, Path] = {}
    for image in images:
        if image.stem in ("", ".", ".."):  # its results would go elsewhere
            raise InvalidRequestError(
                f"{path} must have images with a name before the ending, got {image.path.name}"
            )
        if (other := by_name.setdefault(image.name, image.path)) is not image.path:
            raise InvalidRequestError(
                f"{path} must have one image of a name, got {other.name} and {image.path.name}"
            )
    folders_of_stem = Counter(image.stem for image in images)
    return [replace(image, has_own_stem=folders_of_stem[image.stem] == 1) for image in images]


def said_of_left_out(path: Path, *, recursive: bool = False, cut_suffix: str = "") -> str | None:
    """What `find_images` leaves out, pictures and links to folders, and what to do, or None.

    Arguments are those of `find_images`. Raises `OSError`.
    """
    if not path.is_dir():
        return None
    said = (
        _said_of_pictures(path, recursive, cut_suffix),
        _said_of_links(path) if recursive else None,
    )
    return "; ".join(filter(None, said)) or None


def _said_of_links(path: Path) -> str | None:
    links = sorted(each.relative_to(path).as_posix() for each in _folder_links(path))
    if not links:
        return None
    return (
        f"{len(links)} of links to folders left out ({_shown(links)}), whose files are not "
        "looked for: put the folders themselves there, or name them one by one"
    )


def _folder_links(folder: Path) -> list[Path]:
    found = []
    for each in folder.iterdir():
        if is_hidden(each.name) or not each.is_dir():
            continue
        found += [each] if each.is_symlink() else _folder_links(each)
    return found


def _said_of_pictures(path: Path, recursive: bool, cut_suffix: str) -> str | None:
    found = sorted(
        each.name
        for each in _files(path, recursive=recursive)
        if each.suffix.lower() in UNREAD_SUFFIXES and each.stem.endswith(cut_suffix)
    )
    if not found:
        return None
    kinds = ", ".join(sorted({Path(name).suffix.lower() for name in found}))
    return (
        f"{len(found)} of {kinds} left out ({_shown(found)}): convert them to JPEG or PNG, such as "
        f"by magick mogrify -format jpg '*{Path(found[0]).suffix}'"
    )


def _shown(names: list[str]) -> str:
    return ", ".join(names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")


def _files(folder: Path, *, recursive: bool) -> list[Path]:
    """Files, and links to what is not there, which fail by their name when their turn comes."""
    files = []
    for each in folder.iterdir():
        if is_hidden(each.name):
            continue
        if each.is_file() or (each.is_symlink() and not each.exists()):
            files.append(each)
        elif recursive and each.is_dir() and not each.is_symlink():
            files += _files(each, recursive=True)
    return files


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _folder_of(path: Path, root: Path) -> str:
    folder = path.parent.relative_to(root).as_posix()
    return "" if folder == "." else folder


def _hint(path: Path) -> str:
    """What would find images that lie deeper."""
    has_deeper = any(_is_image(each) for each in _files(path, recursive=True))
    return "; its folders have some: --recursive" if has_deeper else ""
