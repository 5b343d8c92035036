"""`python -m sam_refine_benchmarks.bulk`: a bulk run against the best rate of the same server.

In turns, so that a slow minute of the machine meets both: `refine_many` of images in memory, whose
results are dropped, and `refine_shards` of a tar on disk. Each image is new to the server. At the
end the same with a client that answers at once: what reading, packing and committing alone allow.
"""

from __future__ import annotations

import io
import secrets
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from sam_refine_benchmarks.measuring.machine import ROOT
from sam_refine_bulk import Source, Work, refine_shards
from sam_refine_client import RefineClient, RefineResult
from sam_refine_client.many import stream

DATA = ROOT / "cli/sam_refine_cli/demo_data/portrait"
RUN = secrets.randbits(64)
"""The images of another run, whose embeddings the server may have kept, are others."""
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    url: Annotated[str, typer.Option(help="A server that nobody else uses.")] = "127.0.0.1:8001",
    images: Annotated[int, typer.Option(min=1, help="Of a turn.")] = 30,
    turns: Annotated[int, typer.Option(min=1, help="Of each side.")] = 3,
    concurrency: Annotated[int, typer.Option(min=1)] = 4,
) -> None:
    """Print the rates of both sides, their ratio, and what one worker can do at most."""
    direct: list[float] = []
    bulk: list[float] = []
    with RefineClient(url) as client, tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            jobs = [job_of(2 * turn * images + number) for number in range(images)]
            direct.append(images / timed(partial(drained, client, jobs, concurrency)))
            source, out = Path(folder) / f"in{turn}", Path(folder) / f"out{turn}"
            write_shard(source, (2 * turn + 1) * images, images)
            shards = Source(str(source)).shards()
            work = Work(concurrency=concurrency)
            bulk.append(images / timed(partial(refine_shards, shards, out, client, work)))
            typer.echo(f"turn {turn}: direct {direct[-1]:.3f}/s, bulk {bulk[-1]:.3f}/s")
        answer = client.refine(**job_of(0))
        source, out = Path(folder) / "in", Path(folder) / "out"
        write_shard(source, 0, 20 * images)
        shards, work = Source(str(source)).shards(), Work(concurrency=concurrency)
        files = 20 * images / timed(partial(refine_shards, shards, out, Instant(answer), work))
    ratio = statistics.median(b / d for b, d in zip(bulk, direct, strict=True))
    typer.echo(
        f"direct {statistics.median(direct):.3f}/s, bulk {statistics.median(bulk):.3f}/s, "
        f"bulk / direct {ratio:.3f} (median of {turns} turns of {images} images)"
    )
    typer.echo(f"one worker, with answers that take no time: {files:.0f}/s")


class Instant:
    """A client that has the answer to all: labels of the demo's photo."""

    def __init__(self, answer: RefineResult) -> None:
        self._answer = answer

    def refine(self, **job: Any) -> RefineResult:
        return self._answer

    def refine_many(self, jobs: Any, *, concurrency: int = 4) -> Any:
        return stream(self.refine, jobs, concurrency, in_order=True, end=lambda: None)


def timed(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def drained(client: RefineClient, jobs: list[dict[str, Any]], concurrency: int) -> None:
    for outcome in client.refine_many(jobs, concurrency=concurrency):
        assert outcome.error is None, outcome.error


def photo(number: int) -> bytes:
    """The demo's photo as a JPEG, with noise of its own."""
    pixels = np.asarray(Image.open(DATA / "photo.jpg").convert("RGB")).astype(np.int16)
    noise = np.random.default_rng((RUN, number)).integers(-6, 7, pixels.shape)
    file = io.BytesIO()
    noisy = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(file, format="JPEG", quality=92)
    return file.getvalue()


def job_of(number: int) -> dict[str, Any]:
    return {"image": photo(number), "logits": np.load(DATA / "coarse_scores.npy")}


def write_shard(folder: Path, first: int, images: int) -> None:
    folder.mkdir()
    scores = (DATA / "coarse_scores.npy").read_bytes()
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for number in range(first, first + images):
            for ending, content in (("jpg", photo(number)), ("logits.npy", scores)):
                info = tarfile.TarInfo(f"{number:08}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


if __name__ == "__main__":
    app()
