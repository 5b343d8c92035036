"""What became of each image: lines of JSON, or a progress bar and what it comes to."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sam_refine.contract import InvalidRequestError
from sam_refine_cli.console import INTERRUPTED, error_line, print_error, print_facts, stderr, stdout

if TYPE_CHECKING:
    from sam_refine_client.inputs.images import ImageFile
    from sam_refine_client.many import Outcome

R = TypeVar("R")
SKIP_EXISTING: Final = "--skip-existing goes on with the rest"


class Report:
    """Counts images as they are done, skipped or failed; a failure is one line on stderr.

    Inside a `with` block there is a progress bar on stderr, where that is a terminal. Ctrl-C ends
    the block with one line that says how far it came.
    """

    def __init__(self, total: int, *, is_json: bool = False, go_on: str = "") -> None:
        """`go_on` says how to go on where a run was stopped."""
        self._total = total
        self._go_on = go_on
        self._is_json = is_json
        self._counts: Counter[str] = Counter()
        self._warned: set[str] = set()
        self._started_s = time.monotonic()
        # Lines of JSON on the same terminal would tear the bar.
        is_shown = total > 1 and stderr.is_terminal and not (is_json and stdout.is_terminal)
        self._progress = Progress(
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[failures]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=stderr,
            disable=not is_shown,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=total, failures="")

    def __enter__(self) -> Report:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        if isinstance(error, KeyboardInterrupt):
            print_error(f"interrupted; {self._how_far()}" if self._total > 1 else "interrupted")
            raise typer.Exit(INTERRUPTED) from error

    def done(self, image: Path, files: Sequence[Path], facts: Mapping[str, Any]) -> None:
        """An image whose results lie in `files`."""
        self._count("ok")
        self._print_json(image, "ok", {"files": [str(path) for path in files], **facts})

    def warned(self, image: Path, warnings: Sequence[str]) -> None:
        """What was doubtful about an image: a line each on stderr, once for all that are alike."""
        for warning in warnings:
            alike = same_but_for_numbers(warning, image)
            if alike in self._warned:
                continue
            self._warned.add(alike)
            self._print_line(f"{image}: warning: {warning}")

    def skipped(self, image: Path) -> None:
        """An image that had its results already; it says nothing of how long the others take."""
        self._count("skipped")
        done = sum(self._counts.values())
        self._progress.reset(self._task, completed=done, failures=self._failures)
        self._print_json(image, "skipped", {})
        if self._total == 1 and not self._is_json:
            stdout.print(f"{image} is skipped: its results are there")

    def failed(self, image: Path, error: Exception) -> None:
        """An image that has none, and why."""
        self._count("failed")
        self._print_json(image, "failed", {"error": type(error).__name__, "message": str(error)})
        self._print_line(f"{image}: {error}")

    def ended(self, image: Path, error: Exception) -> NoReturn:
        """An image that failed in a way in which all that come after it would: exit code 1."""
        self.failed(image, error)
        self._progress.stop()
        if self._total > 1:
            print_error(f"ended, the others would fail, too; {self._how_far()}")
        raise typer.Exit(1)

    def finish(self, out: Path | None, facts: Mapping[str, str]) -> None:
        """Print what it comes to, and where it lies; exit code 1 where an image failed."""
        self._progress.stop()
        failed = self._counts["failed"]
        if self._total > 1 and not self._is_json:
            seconds = time.monotonic() - self._started_s
            done = self._counts["ok"]
            per_image = {"per image": f"{seconds / done:.2f} s"} if done else {}
            names = ("ok", "skipped", "failed") if self._go_on else ("ok", "failed")
            counts = {name: str(self._counts[name]) for name in names}
            print_facts(
                {"images": str(self._total), **counts, **facts, **per_image}, are_numbers=True
            )
            if out is not None:
                stdout.print(f"{out}")
        if failed:
            if self._total > 1:
                print_error(f"{failed} of {self._total} images failed")
            raise typer.Exit(1)

    def _print_line(self, text: str) -> None:
        if self._progress.live.is_started:
            self._progress.console.print(error_line(text))
        else:
            print_error(text)

    @property
    def all_failed(self) -> bool:
        """Whether each image failed."""
        return self._counts["failed"] == self._total

    def _count(self, status: str) -> None:
        self._counts[status] += 1
        self._progress.update(self._task, advance=1, failures=self._failures)

    @property
    def _failures(self) -> str:
        failed = self._counts["failed"]
        return f"{failed} failed" if failed else ""

    def _how_far(self) -> str:
        done = self._counts["ok"] + self._counts["skipped"]
        so_far = f"{done} of {self._total} images are done"
        return f"{so_far}, {self._go_on}" if self._go_on else so_far

    def _print_json(self, image: Path, status: str, facts: Mapping[str, Any]) -> None:
        if self._is_json:
            print(json.dumps({"image": str(image), "status": status, **facts}), flush=True)


def answers(
    ask: Callable[[Iterator[dict[str, Any]]], Iterable[Outcome[R]]],
    images: Sequence[ImageFile],
    job: Callable[[ImageFile], dict[str, Any]],
    report: Report,
) -> Iterator[tuple[ImageFile, R]]:
    """The answers to the images that have one, in order; the others are reported.

    `ask` is the client's call of many jobs; `job` makes that of an image, and may raise
    `InvalidRequestError` and `OSError`.
    """
    from sam_refine_client import ForbiddenError, ProtocolError, UnreachableError

    sent: list[ImageFile] = []

    def jobs() -> Iterator[dict[str, Any]]:
        for image in images:
            try:
                made = job(image)
            except (InvalidRequestError, OSError) as error:
                report.failed(image.path, error)
                continue
            sent.append(image)
            yield made

    for outcome in ask(jobs()):
        image = sent[outcome.index]
        if isinstance(outcome.error, UnreachableError | ForbiddenError | ProtocolError):
            report.ended(image.path, outcome.error)
        elif outcome.error is not None:
            report.failed(image.path, outcome.error)
        elif outcome.result is not None:
            yield image, outcome.result


def same_but_for_numbers(warning: str, image: Path) -> str:
    """What warnings of different images have in common: no numbers, and no names of files."""
    without_paths = re.sub(rf"\S*/\S*|(?<!\w){re.escape(image.stem)}\.\w+", "", warning)
    return re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "", without_paths)
