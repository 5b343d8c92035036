"""What the supervisor knows of its server, for probes and for Prometheus."""

from __future__ import annotations

import time
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics

from sam_refine.contract import MODELS
from sam_refine_deploy.supervisor.watch import Cause

TRITONSERVER = "tritonserver"
"""Stands for the server itself where a label names a model."""

disable_created_metrics()  # type: ignore[no-untyped-call] # when each counter began


class Status:
    """Ready or why not, and what was healed. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._reasons: tuple[str, ...] = ("the server starts",)
        self._changed_s = time.monotonic()
        self.registry = CollectorRegistry()
        self.reloads = Counter(
            "sam_refine_model_reloads",
            "Models that were given fresh processes, by what had happened to the old ones",
            ["model", "cause"],
            registry=self.registry,
        )
        self.continued = Counter(
            "sam_refine_processes_continued",
            "Processes that a signal had stopped, and that were told to go on",
            ["model"],
            registry=self.registry,
        )
        self.restarts = Counter(
            "sam_refine_server_restarts",
            "Starts of tritonserver after the first, by what had happened to the last one",
            ["cause"],
            registry=self.registry,
        )
        self._unready = Counter(
            "sam_refine_unready_seconds",
            "Seconds in which the server was not ready, its starts included",
            registry=self.registry,
        )
        self._ready = Gauge(
            "sam_refine_ready",
            "1 where every instance of every model works",
            registry=self.registry,
        )
        self._warning_count = Gauge(
            "sam_refine_warnings",
            "Instances that work and have something to say, such as that a GPU is idle",
            registry=self.registry,
        )
        self.warnings: tuple[str, ...] = ()
        """What instances say of themselves that does not keep them from working."""
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """All series from the start: what first appears as 1 is no increase to Prometheus."""
        for model in MODELS:
            self.continued.labels(model.name)
            for cause in (Cause.ENDED, Cause.SILENT):
                self.reloads.labels(model.name, cause.value)
        self.continued.labels(TRITONSERVER)
        for cause in (Cause.ENDED, Cause.SILENT, Cause.WORN):
            self.restarts.labels(cause.value)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the server is not ready; empty where it is."""
        with self._lock:
            return self._reasons

    def warn(self, warnings: tuple[str, ...]) -> None:
        """Replace the warnings."""
        self.warnings = warnings
        self._warning_count.set(len(warnings))

    def set(self, *reasons: str) -> None:
        """Say why the server is not ready, or, without a reason, that it is."""
        now_s = time.monotonic()
        with self._lock:
            if self._reasons:
                self._unready.inc(now_s - self._changed_s)
            self._reasons, self._changed_s = reasons, now_s
        self._ready.set(0 if reasons else 1)
