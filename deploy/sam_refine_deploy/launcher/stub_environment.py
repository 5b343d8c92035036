"""The Python environment that Triton's stubs see, where the real one's path has more than ASCII.

A stub starts Python without a locale: it cannot decode such a path, in PATH or in the .pth file of
an editable installation, and the server waits for it for ever. So it is given a likeness of this
environment in the run's folder: links, with plain names.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from sam_refine_deploy.launcher.run_directory import RunDirectory, is_plain


def stub_path(run: RunDirectory, search_path: str) -> str:
    """PATH for the server: its first `python3` is this environment, or the likeness of it."""
    packages = Path(sysconfig.get_path("purelib"))
    paths = [path for path in packages.glob("*.pth") if not _text(path).isascii()]
    if is_plain(Path(sys.prefix)) and not paths:
        return search_path
    return os.pathsep.join([str(_likeness(run.path / "python", packages)), search_path])


def _likeness(place: Path, packages: Path) -> Path:
    """Make an environment at `place` with the packages of this one; the folder of its `python3`."""
    prefix = Path(sys.prefix)
    executables = place / "bin"
    executables.mkdir(parents=True)
    (executables / "python3").symlink_to(Path(sys.executable).resolve())
    if (prefix / "pyvenv.cfg").is_file():
        shutil.copyfile(prefix / "pyvenv.cfg", place / "pyvenv.cfg")
    own = place / packages.relative_to(prefix)
    own.mkdir(parents=True)
    for entry in packages.iterdir():
        if entry.suffix == ".pth":
            (own / entry.name).write_text(_plain_lines(entry, place / "paths"), encoding="ascii")
        else:
            (own / entry.name).symlink_to(entry)
    return executables


def _plain_lines(path: Path, links: Path) -> str:
    """A .pth file's lines: folders by links with plain names, other lines as they are."""
    lines = []
    for line in _text(path).splitlines():
        folder = path.parent / line
        if line and not is_plain(folder) and folder.is_dir():
            links.mkdir(exist_ok=True)
            link = links / str(len(list(links.iterdir())))
            link.symlink_to(folder.resolve(), target_is_directory=True)
            lines.append(str(link))
        elif line.isascii():
            lines.append(line)
    return "\n".join([*lines, ""])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
