"""How far a run is, as a textfile for Prometheus' node exporter."""

from __future__ import annotations

import time
from collections import Counter, deque
from pathlib import Path
from typing import Final

from sam_refine_bulk.shard import DONE
from sam_refine_bulk.state import State
from sam_refine_bulk.worker import Event

_WINDOW_S: Final = 60.0


class Progress:
    """Counts of a whole job: what earlier runs have committed, and the events of this one."""

    def __init__(self, shards: int, committed: State | None = None) -> None:
        """Without `committed` of this run alone, as where failed images are tried again."""
        self.shards = shards
        self.committed = self.damaged = self._committed_before = 0
        self.done_now = 0
        """Images that this run has refined; what others add to the folder meanwhile is not in it,
        nor what a killed worker had not committed."""
        self._before: Counter[str] = Counter()
        if committed is not None:
            self.committed = self._committed_before = committed.committed
            self._before = Counter({DONE: committed.done, **committed.reasons})
        self._opened: dict[str, tuple[int, Counter[str]]] = {}
        self._counts = Counter(self._before)
        self._started_s = time.monotonic()
        self._latest: deque[float] = deque()

    def add(self, event: Event) -> None:
        """What has happened."""
        if event.kind == "opened":
            _, counted = self._opened.get(event.shard, (0, Counter()))
            self.done_now -= max(0, counted[DONE] - event.counts.get(DONE, 0))
            self._counts.subtract(counted)  # what a killed worker had not committed is done again
            self._counts.update(event.counts)
            self._opened[event.shard] = event.images, Counter(event.counts)
        elif event.kind == "image":
            self._opened[event.shard][1][event.outcome] += 1
            self._counts[event.outcome] += 1
            self.done_now += event.outcome == DONE
            self._latest.append(time.monotonic())
        elif event.kind == "committed":
            self.committed += 1
        elif event.kind == "damaged":
            self.damaged += 1

    @property
    def done(self) -> int:
        """Images that have a result, those of parts not yet committed too."""
        return self._counts[DONE]

    @property
    def reasons(self) -> dict[str, int]:
        """Failed images by reason."""
        return {name: count for name, count in self._counts.items() if name != DONE and count}

    @property
    def failed(self) -> int:
        return sum(self.reasons.values())

    @property
    def images_per_s(self) -> float:
        """Of the last minute; 0 before the first image."""
        now = time.monotonic()
        while self._latest and now - self._latest[0] > _WINDOW_S:
            self._latest.popleft()
        since_s = min(now - self._started_s, _WINDOW_S)
        return len(self._latest) / since_s if since_s > 0 else 0.0

    @property
    def images_of_all(self) -> float:
        """How many there are in all, as far as the shards opened so far tell; 0 where unknown."""
        known = self._committed_before + len(self._opened)
        if not known:
            return 0.0
        images = sum(self._before.values()) + sum(count for count, _ in self._opened.values())
        return max(images / known * self.shards, self.done + self.failed)

    @property
    def eta_s(self) -> float | None:
        """Seconds until the last image; None where that cannot be said yet."""
        rate, all_ = self.images_per_s, self.images_of_all
        if not rate or not all_:
            return None
        return max(0.0, all_ - self.done - self.failed) / rate


class MetricsFile:
    """Written whole, at most so often."""

    _EVERY_S: Final = 5.0

    def __init__(self, path: Path, labels: dict[str, str]) -> None:
        """`labels` go with every metric. Needs prometheus_client."""
        from prometheus_client import CollectorRegistry, Gauge

        self._path = path
        self._written_s = -self._EVERY_S
        self._registry = CollectorRegistry()
        self._labels = labels

        def gauge(name: str, text: str, *more: str) -> Gauge:
            return Gauge(f"sam_refine_bulk_{name}", text, [*labels, *more], registry=self._registry)

        self._images = gauge("images", "Images of the job by what came of them.", "outcome")
        self._reasons = gauge("failed_images", "Failed images of the job by reason.", "reason")
        self._shards = gauge("shards", "Shards of the job by what came of them.", "state")
        self._rate = gauge("images_per_second", "Images of this run in the last minute, each s.")
        self._eta = gauge("eta_seconds", "Seconds until the last image; NaN before it is known.")
        self._time = gauge("written_timestamp_seconds", "When this file was written.")

    def write(self, progress: Progress, *, now: bool = False) -> None:
        """Raises `OSError`."""
        from prometheus_client import write_to_textfile

        if not now and time.monotonic() - self._written_s < self._EVERY_S:
            return
        self._written_s = time.monotonic()
        labels = self._labels
        for outcome, count in (("done", progress.done), ("failed", progress.failed)):
            self._images.labels(**labels, outcome=outcome).set(count)
        for reason, count in progress.reasons.items():
            self._reasons.labels(**labels, reason=reason).set(count)
        states = {"committed": progress.committed, "damaged": progress.damaged}
        states["open"] = progress.shards - progress.committed - progress.damaged
        for state, count in states.items():
            self._shards.labels(**labels, state=state).set(count)
        eta_s = progress.eta_s
        self._rate.labels(**labels).set(progress.images_per_s)
        self._eta.labels(**labels).set(float("nan") if eta_s is None else eta_s)
        self._time.labels(**labels).set(time.time())
        write_to_textfile(str(self._path), self._registry)
