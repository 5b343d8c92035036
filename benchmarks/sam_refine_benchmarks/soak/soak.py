"""Callers with an oracle for each input, beside somebody who kills processes of the server."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import psutil

from sam_refine.contract import MaskPrompt
from sam_refine.contract.serving.run_directory import SHARED_MEMORY
from sam_refine_benchmarks.measuring.machine import ROOT
from sam_refine_benchmarks.sides.server import Supervised, supervised
from sam_refine_benchmarks.soak.growth import (
    NOTHING,
    TRITONSERVER,
    Sample,
    Taken,
    are_enough,
    growth,
)
from sam_refine_client import (
    DeadlineError,
    RefineClient,
    RefineError,
    RefineOptions,
)
from sam_refine_deploy.launcher.stubs import stubs_of

CALLERS: Final = 4
"""With the client's defaults and a deadline: none of their requests may be lost."""
DEADLINE_S: Final = 30.0
SIZES: Final = ((96, 128), (200, 300), (360, 480))
SAMPLE_S: Final = 1.0
LOG: Final = ROOT / "build/soak.log"
"""What the supervisor says."""
OPTIONS: Final = RefineOptions(mask_prompt=MaskPrompt.NONE, min_region_area=1, iou_threshold=0.0)


@dataclass(frozen=True)
class Question:
    """An input whose answer is known."""

    image: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]


@dataclass
class Outcome:
    """What became of the requests, and what was done to the server."""

    counts: Counter[str] = field(
        default_factory=lambda: Counter({"right": 0, "wrong": 0, "lost": 0})
    )
    """Requests: right, wrong, lost; given up by callers in a hurry."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Why requests were lost."""
    done: Counter[str] = field(default_factory=Counter)
    """Kills and stops, by whom they met."""
    slowest_s: float = 0.0
    samples: list[Sample] = field(default_factory=list)
    """What the service took, from the beginning to the end."""

    @property
    def grown(self) -> list[str]:
        """What takes more and more; nothing where the run was too short for a verdict."""
        return growth(self.samples) if are_enough(self.samples) else []

    @property
    def is_right(self) -> bool:
        """Whether there were answers, none was wrong and none lost."""
        return self.counts["right"] > 0 and not (self.counts["wrong"] or self.counts["lost"])


def soak(
    repository: Path,
    seconds: float,
    kill_every_s: float,
    seed: int,
    say: Callable[[str], None],
    deadline_s: float = DEADLINE_S,
) -> Outcome:
    """Run for `seconds`; `say` is told about the server at the start, the middle and the end.

    A request is lost where it is not answered in `deadline_s`.
    """
    outcome = Outcome()
    with _served(repository) as server:
        questions = _questions(server.url, seed)
        ended = threading.Event()
        threads = [
            threading.Thread(
                target=_call, args=(server.url, questions, seed + i, deadline_s, outcome, ended)
            )
            for i in range(CALLERS)
        ]
        hurried = (server.url, questions, seed, outcome, ended)
        threads.append(threading.Thread(target=_give_up, args=hurried))
        threads.append(threading.Thread(target=_sample, args=(server, outcome.samples, ended)))
        say(f"start   {server.describe()}")
        for thread in threads:
            thread.start()
        _kill(server, seconds / 2, kill_every_s, random.Random(seed), outcome)
        say(f"middle  {server.describe()}")
        _kill(server, seconds / 2, kill_every_s, random.Random(seed + 1), outcome)
        ended.set()
        for thread in threads:
            thread.join()
        say(f"end     {server.describe()}")
        say(f"requests: {_listed(outcome.counts)}; slowest {outcome.slowest_s:.1f} s")
        say(f"done to it: {_listed(outcome.done)}")
        say(f"healed: {_listed(server.healed())}")
        say(_verdict(outcome))
        for reason, count in outcome.reasons.items():
            say(f"lost {count} x {reason}")
    return outcome


# --- Callers ---------------------------------------------------------------------------------


def _questions(url: str, seed: int) -> list[Question]:
    """As the server answers before anybody disturbs it."""
    rng = np.random.default_rng(seed)
    questions = []
    with RefineClient(url) as client:
        for height, width in SIZES:
            coarse = rng.integers(0, 255, (height // 16 + 1, width // 16 + 1, 3), np.uint8)
            image = np.kron(coarse, np.ones((16, 16, 1), np.uint8))[:height, :width]
            scores = rng.random((3, 6, 8), np.float32)
            labels = client.refine(image, logits=scores, options=OPTIONS).labels
            assert labels is not None
            questions.append(Question(np.ascontiguousarray(image), scores, labels))
    return questions


def _call(
    url: str,
    questions: list[Question],
    seed: int,
    deadline_s: float,
    outcome: Outcome,
    ended: threading.Event,
) -> None:
    """Ask one question after the other; whatever is no right answer in time is lost."""
    chance = random.Random(seed)
    with RefineClient(url) as client:
        while not ended.is_set():
            question = chance.choice(questions)
            begun_s = time.monotonic()
            try:
                result = client.refine(
                    question.image, logits=question.scores, options=OPTIONS, timeout_s=deadline_s
                )
                assert result.labels is not None
                is_right = np.array_equal(result.labels, question.labels)
                outcome.counts["right" if is_right else "wrong"] += 1
            except Exception as error:  # a client that fails in another way has lost it, too
                outcome.counts["lost"] += 1
                outcome.reasons[f"{type(error).__name__}: {str(error)[:100]}"] += 1
            outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - begun_s)


def _give_up(
    url: str, questions: list[Question], seed: int, outcome: Outcome, ended: threading.Event
) -> None:
    """Ask with deadlines that pass in the queue, in the encoder and in the decoder."""
    chance = random.Random(seed)
    with RefineClient(url) as client:
        while not ended.wait(chance.uniform(0, 1)):
            question = chance.choice(questions)
            with suppress(RefineError):
                try:
                    result = client.refine(
                        question.image,
                        logits=question.scores,
                        options=OPTIONS,
                        timeout_s=chance.uniform(0.01, 1),
                    )
                    assert result.labels is not None
                    is_right = np.array_equal(result.labels, question.labels)
                    outcome.counts["in a hurry, answered" if is_right else "wrong"] += 1
                except DeadlineError:
                    outcome.counts["in a hurry, given up"] += 1


# --- Who kills -------------------------------------------------------------------------------


def _kill(
    server: _Served, seconds: float, every_s: float, chance: random.Random, outcome: Outcome
) -> None:
    end_s = time.monotonic() + seconds
    while (now_s := time.monotonic()) < end_s:
        time.sleep(min(chance.uniform(0.5, 1.5) * every_s, end_s - now_s))
        what = chance.choices(["stub", "stopped", "all stubs", "tritonserver"], (14, 4, 1, 1))[0]
        victims = server.triton() if what == "tritonserver" else server.stubs()
        if not victims:
            continue
        if what in ("stub", "stopped"):
            victims = [chance.choice(victims)]
        outcome.done[what] += 1
        for victim in victims:
            with suppress(psutil.Error):
                victim.send_signal(signal.SIGSTOP if what == "stopped" else signal.SIGKILL)


# --- What it takes ---------------------------------------------------------------------------


def _sample(server: _Served, samples: list[Sample], ended: threading.Event) -> None:
    triton, before = 0, 0
    while not ended.wait(SAMPLE_S):
        with suppress(psutil.Error, OSError):  # a process ends while it is looked at
            counts = server.healed().items()
            reloads = sum(count for name, count in counts if name.startswith("model_reloads"))
            now = next((process.pid for process in server.triton()), 0)
            if now != triton:
                triton, before = now, reloads
            samples.append(Sample(reloads - before, server.taken()))


def _verdict(outcome: Outcome) -> str:
    if not are_enough(outcome.samples):
        return "memory and open files: too short a run for a verdict"
    return f"memory and open files: {', '.join(outcome.grown) or 'flat'}"


# --- The server ------------------------------------------------------------------------------


class _Served(Supervised):
    """With those of its processes that are killed."""

    def triton(self) -> list[psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if child.name() == "tritonserver"]

    def stubs(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return [
                stub
                for triton in self.triton()
                for stub in triton.children()
                if stub.status() != psutil.STATUS_ZOMBIE
            ]
        return []

    def describe(self) -> str:
        """Memory, open files and shared memory of all its processes."""
        rss_bytes = files = 0
        processes = [psutil.Process(self.process.pid), *self.triton(), *self.stubs()]
        for process in processes:
            with suppress(psutil.Error):
                rss_bytes += process.memory_info().rss
                files += process.num_fds()
        shared = psutil.disk_usage(str(SHARED_MEMORY)).used
        return (
            f"{len(processes)} processes, {rss_bytes / 2**20:.0f} MiB, {files} open files, "
            f"{shared / 2**20:.0f} MiB in {SHARED_MEMORY}"
        )

    def taken(self) -> dict[str, Taken]:
        """By kind: the supervisor, tritonserver, the stubs of each model, and shared memory."""
        processes = [("supervisor", self.process.pid)]
        for triton in self.triton():
            processes.append((TRITONSERVER, triton.pid))
            processes += [(stub.model, stub.process_id) for stub in stubs_of(triton.pid)]
        most = {str(SHARED_MEMORY): self._shared_memory()}
        for kind, process_id in processes:
            with suppress(psutil.Error):  # it has ended
                process = psutil.Process(process_id)
                memory = process.memory_info()
                taken = Taken(memory.rss - memory.shared, process.num_fds())
                most[kind] = most.get(kind, NOTHING).or_more(taken)
        return most

    def _shared_memory(self) -> Taken:
        sizes = []
        for path in SHARED_MEMORY.glob(f"sam_refine_{self.process.pid}_*"):
            with suppress(OSError):
                sizes.append(path.stat().st_blocks * 512)
        return Taken(sum(sizes), len(sizes))

    def healed(self) -> Counter[str]:
        """The supervisor's own counters."""
        found: Counter[str] = Counter()
        for family in self.metrics("--health-port"):
            for sample in family.samples:
                name = " ".join((family.name.removeprefix("sam_refine_"), *sample.labels.values()))
                found[name] += round(sample.value)
        return found


@contextmanager
def _served(repository: Path) -> Iterator[_Served]:
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("w") as log, supervised(repository, Path(sys.executable), log) as server:
        yield _Served(server.process, server.ports)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing"
