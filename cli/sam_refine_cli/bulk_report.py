"""How far a bulk run is: a bar on a terminal, else a line each minute; failures as they come."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Final

import typer
from rich.progress import BarColumn, Progress, TextColumn

from sam_refine_cli.console import INTERRUPTED, error_line, print_error, print_facts, stderr

if TYPE_CHECKING:
    from sam_refine_bulk import Event, State
    from sam_refine_bulk.executors.rank import Rank
    from sam_refine_bulk.metrics import MetricsFile
    from sam_refine_bulk.metrics import Progress as Counts

_SHOWN_FAILURES: Final = 20
_SHOWN_WARNINGS: Final = 5
_EVERY_S: Final = 60.0


class BulkReport:
    """Observes the events of a run, inside a `with` block."""

    def __init__(self, counts: Counts, metrics: MetricsFile | None, rank: Rank) -> None:
        self._counts = counts
        self._metrics = metrics
        self._shown_failures = 0
        self._warnings: set[str] = set()
        self._latest_s = self._started_s = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            console=stderr,
            disable=not stderr.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task("", total=None)
        if rank.world_size > 1:
            self._print(
                f"rank {rank.rank} of {rank.world_size} ({rank.of}): {counts.shards} shards"
            )

    def __enter__(self) -> BulkReport:
        self._bar.start()
        self._write_metrics(now=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._write_metrics(now=True)
        if isinstance(error, KeyboardInterrupt):
            print_error(f"interrupted; {self._words()}; the same command goes on")
            raise typer.Exit(INTERRUPTED) from error

    def observe(self, event: Event) -> None:
        """Count it, and show what a person wants to see."""
        self._counts.add(event)
        if event.kind in ("waiting", "damaged") or event.key:
            self._tell(event)
        elif event.message and event.message not in self._warnings:
            self._warnings.add(event.message)
            if len(self._warnings) <= _SHOWN_WARNINGS:
                self._print(f"{event.shard}: {event.message}")
        self._bar.update(
            self._task,
            description=self._words(),
            total=self._counts.images_of_all or None,
            completed=self._counts.done + self._counts.failed,
        )
        if not stderr.is_terminal and time.monotonic() - self._latest_s > _EVERY_S:
            self._latest_s = time.monotonic()
            self._print(self._words())
        self._write_metrics()

    def finish(self, state: State) -> None:
        """What it came to: the whole job from the folder, and this run from its events."""
        seconds = time.monotonic() - self._started_s
        done_now = self._counts.done_now
        facts = {
            "shards": f"{state.committed:,} of {state.shards:,}",
            "images done": f"{state.done:,}",
            "images failed": f"{state.failed:,}",
            **{f"  {reason}": f"{count:,}" for reason, count in sorted(state.reasons.items())},
            "done now": f"{done_now:,}",
        }
        if done_now > 0:
            facts["images/s"] = f"{done_now / seconds:.2f}"
        print_facts(facts, are_numbers=True)
        if state.damaged:
            print_error(f"{len(state.damaged)} shards are damaged; mend them and run again")
        if state.failed:
            print_error(f"{state.failed} images failed; `bulk status --failed` lists them")

    def _tell(self, event: Event) -> None:
        if event.key:
            self._shown_failures += 1
            if self._shown_failures > _SHOWN_FAILURES:
                return
        where = "/".join(part for part in (event.shard, event.key) if part)
        what = "waiting: " if event.kind == "waiting" else ""
        self._print(f"{where}: {what}{event.message}" if where else event.message)
        if event.key and self._shown_failures == _SHOWN_FAILURES:
            self._print("more failures are counted only; `bulk status --failed` lists them")

    def _words(self) -> str:
        counts = self._counts
        eta_s = counts.eta_s
        parts = [
            f"{counts.committed:,} of {counts.shards:,} shards",
            f"{counts.done:,} images",
            *(f"{count:,} failed ({reason})" for reason, count in sorted(counts.reasons.items())),
            f"{counts.images_per_s:.1f}/s",
            *([f"{_duration(eta_s)} to go"] if eta_s is not None else []),
        ]
        return ", ".join(parts)

    def _print(self, text: str) -> None:
        if self._bar.live.is_started:
            self._bar.console.print(error_line(text))
        else:
            print_error(text)

    def _write_metrics(self, *, now: bool = False) -> None:
        if self._metrics is None:
            return
        try:
            self._metrics.write(self._counts, now=now)
        except OSError as error:  # what only tells of the work must not end it
            print_error(f"--metrics-file: {error}")
            self._metrics = None


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
