"""How far a run is, as a textfile for Prometheus' node exporter."""

from __future__ import annotations

import time
from collections import Counter, deque
from pathlib import Path
from typing import Final

from sam_refine_bulk.state import State
from sam_refine_bulk.worker import Event

_WINDOW_S: Final = 60.0


class Progress:
    """Counts of a whole job: what earlier runs have done, and the events of this one."""

    def __init__(self, shards: int, before: State | None = None) -> None:
        """Without `before` of this run alone, as where failed images are tried again."""
        self.shards = shards
        self.done = self.failed = self.committed = self.damaged = 0
        self.reasons: Counter[str] = Counter()
        self._known_shards = self._known_images = 0
        if before is not None:
            self.done, self.failed = before.done, before.failed
            self.reasons.update(before.reasons)
            self.committed = self._known_shards = before.committed
            self._known_images = before.committed_images
        self.done_now = self.failed_now = 0
        self._started_s = time.monotonic()
        self._latest: deque[float] = deque()

    def add(self, event: Event) -> None:
        """What has happened."""
        if event.kind == "opened":
            self._known_shards += 1
            self._known_images += event.images
        elif event.kind == "image":
            self.done += event.images
            self.failed += event.failed
            self.done_now += event.images
            self.failed_now += event.failed
            if event.failed:
                self.reasons[event.reason] += event.failed
            self._latest.append(time.monotonic())
        elif event.kind == "committed":
            self.committed += 1
        elif event.kind == "damaged":
            self.damaged += 1

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
        if not self._known_shards:
            return 0.0
        return max(self._known_images / self._known_shards * self.shards, self.done + self.failed)

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
