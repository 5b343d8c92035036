"""A worker where servers fail, disks are full, inputs are damaged, others are at work."""

from __future__ import annotations

import resource
import signal
import tarfile
import threading
from collections import Counter

import pytest

from sam_refine.contract import RefineOptions
from sam_refine_bulk import (
    DamagedShardError,
    NoServerError,
    OutputError,
    Source,
    Work,
    patience,
    refine_shard,
    refine_shards,
    state_of,
    verify,
)
from sam_refine_bulk.job import begin, resume
from sam_refine_bulk.outputs.layout import Layout
from sam_refine_bulk.outputs.lock import locked
from sam_refine_bulk.state import failed_images
from sam_refine_client import (
    CancelledError,
    DeadlineError,
    ForbiddenError,
    OverloadedError,
    ProtocolError,
    ServerError,
    UnreachableError,
)
from support.bulk.data_sets import (
    FakeClient,
    computed,
    data_set,
    forked,
    image,
    npy,
    results,
    sample,
    scores,
    transient,
    write_tar,
)

WORK = Work(part=8, concurrency=2)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(patience, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(patience, "_LONGEST_WAIT_S", 0.001)


@pytest.fixture
def source(tmp_path):
    return data_set(tmp_path / "in", 5, 4)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out"


def started(source, output):
    return begin(Source(str(source)), output, RefineOptions(), None, None, {}).shards


def run(source, output, client=None, work=WORK, **options):
    refine_shards(started(source, output), output, client or FakeClient(), work, **options)


def keys(count):
    return Counter(f"{number:04}" for number in range(count))


@pytest.mark.parametrize(
    "errors",
    [
        transient(UnreachableError, 50),
        transient(OverloadedError, 50, "Failed to increase the shared memory pool size"),
        transient(OverloadedError, 50, "the stub is not healthy"),
        transient(CancelledError, 50),
        transient(OverloadedError, 50, "a gateway on the way lets no more calls through now"),
        transient(ServerError, 2),
        transient(DeadlineError, 2),
        [*transient(ServerError, 1), *transient(UnreachableError, 9), *transient(ServerError, 1)],
    ],
    ids=lambda errors: f"{len(errors)}-{type(errors[0]).__name__}",
)
def test_trouble_that_passes_is_no_failed_image(source, output, errors):
    client = FakeClient()
    client.errors = {3: list(errors)}
    run(source, output, client)
    assert results(output) == keys(9)
    assert state_of(output).failed == 0


@pytest.mark.parametrize(
    ("error", "reason"),
    [(ServerError, "server"), (DeadlineError, "timeout"), (OverloadedError, "server")],
)
def test_image_at_which_the_server_fails_each_time_fails(source, output, error, reason):
    client = FakeClient()
    client.errors = {3: transient(error, 3, "message larger than max")}
    run(source, output, client)
    assert results(output) == keys(9) - Counter(["0003"])
    ((shard, fact),) = failed_images(output)
    assert (shard, fact["key"], fact["reason"]) == ("a-00000", "0003", reason)
    assert "message larger than max" in fact["message"]
    assert client.errors[3] == []


@pytest.mark.parametrize("error", [ForbiddenError, ProtocolError])
def test_server_that_lets_nobody_in_ends_the_job_and_fails_no_image(source, output, error):
    client = FakeClient()
    client.errors = {3: transient(error, 1)}
    with pytest.raises(NoServerError):
        run(source, output, client)
    assert state_of(output).failed == 0
    run(source, output, client)
    assert results(output) == keys(9)


def test_server_that_stays_away_ends_the_job_which_goes_on_later(source, output):
    client = FakeClient()
    client.errors = {3: transient(UnreachableError, 10_000)}
    with pytest.raises(NoServerError, match=r"no server for 0\.05 s.*goes on later"):
        run(source, output, client, Work(part=8, concurrency=2, wait_s=0.05))
    assert state_of(output).failed == 0
    run(source, output)
    assert results(output) == keys(9)


def test_failed_images_count_as_failed_now_and_after_a_relaunch(tmp_path, output):
    members = sample(0) | {"bad.png": image(1)} | sample(2) | sample(2, "other")
    members["other.logits.npy"] = npy(scores(2)[:, :2])
    source = tmp_path / "in"
    write_tar(source / "a.tar", members)
    run(source, output)
    for _ in range(2):
        state = state_of(output)
        assert (state.done, state.failed, state.reasons) == (2, 2, {"input": 2})
        assert results(output) == Counter(["0000", "0002"])
        assert list(verify(output, started(source, output))) == []
        client = FakeClient()
        run(source, output, client)
        assert client.calls == 0


def test_retry_does_failed_images_only_and_what_was_mended_or_added(tmp_path, output):
    source = tmp_path / "in"
    broken = {"0001.png": image(1), "0001.txt": b""}
    write_tar(source / "a.tar", sample(0) | broken | {"0002.png": image(2)})
    run(source, output)
    write_tar(source / "a.tar", sample(0) | sample(1) | {"0002.png": image(2)} | sample(3))
    client = FakeClient()
    again = Work(part=8, concurrency=2, retry=True)
    refine_shards(resume(output).shards, output, client, again)
    assert client.calls == 2
    assert results(output) == Counter(["0000", "0001", "0003"])
    ((_, fact),) = failed_images(output)
    assert (fact["key"], state_of(output).done) == ("0002", 3)
    assert list(verify(output, resume(output).shards)) == []


def test_retry_does_what_was_added_to_a_shard_without_failures(tmp_path, output):
    source = tmp_path / "in"
    write_tar(source / "a.tar", sample(0))
    run(source, output)
    write_tar(source / "a.tar", sample(0) | sample(1))
    (said,) = verify(output, resume(output).shards)
    assert said.endswith("as '0001'; `bulk retry-failed` refines what was added")
    client = FakeClient()
    refine_shards(resume(output).shards, output, client, Work(retry=True))
    assert client.calls == 1
    assert results(output) == Counter(["0000", "0001"])
    assert list(verify(output, resume(output).shards)) == []


def test_retry_leaves_a_shard_without_failures_alone(source, output):
    run(source, output)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.tar")}
    client = FakeClient()
    refine_shards(resume(output).shards, output, client, Work(retry=True))
    assert client.calls == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.tar")} == before


def test_damaged_shard_is_named_the_others_go_on_and_it_is_done_once_mended(source, output):
    whole = (source / "a-00000.tar").read_bytes()
    (source / "a-00000.tar").write_bytes(b"")
    events = []
    run(source, output, observe=events.append)
    assert [event.shard for event in events if event.kind == "damaged"] == ["a-00000"]
    state = state_of(output)
    assert (state.done, state.failed, state.is_whole) == (4, 0, False)
    assert "no whole tar" in state.damaged["a-00000"]
    assert list(verify(output)) == ["a-00000 is not done: run the job again"]
    with pytest.raises(DamagedShardError):
        refine_shard(started(source, output)[0], output, FakeClient(), WORK)
    (source / "a-00000.tar").write_bytes(whole)
    run(source, output)
    assert results(output) == keys(9)
    assert state_of(output).damaged == {}


def test_shard_without_images_is_done(tmp_path, output):
    source = tmp_path / "in"
    write_tar(source / "a.tar", {})
    run(source, output)
    assert state_of(output).is_whole
    with tarfile.open(output / "a.tar") as tar:
        assert tar.getnames() == []


def test_input_that_changed_meanwhile_is_begun_anew(source, output):
    """Parts of the shard as it was are not mixed with images of what it is."""

    def end_after_three(event):
        if event.kind == "image" and (seen := seen_before(event)) == 3:
            raise KeyboardInterrupt(seen)

    count = Counter()

    def seen_before(event):
        count[event.kind] += 1
        return count[event.kind]

    one_at_a_time = Work(part=1, concurrency=1)
    with pytest.raises(KeyboardInterrupt):
        run(source, output, work=one_at_a_time, observe=end_after_three)
    assert list((output / ".bulk/work").rglob("*.tar"))
    write_tar(source / "a-00000.tar", sample(50) | sample(51))
    run(source, output, work=one_at_a_time)
    assert results(output) == Counter(["0050", "0051", "0005", "0006", "0007", "0008"])


def test_shard_that_another_worker_has_is_left_to_it(source, output):
    shards = started(source, output)
    place = Layout(output).place("a-00000")
    with locked(place.lock) as is_mine:
        assert is_mine
        assert state_of(output).at_work == 1
        assert refine_shard(shards[0], output, FakeClient(), WORK) is False
        assert refine_shard(shards[1], output, FakeClient(), WORK) is True
    assert refine_shard(shards[0], output, FakeClient(), WORK) is True
    assert results(output) == keys(9)


def test_two_workers_at_once_do_each_image_once(tmp_path, output):
    source, log = data_set(tmp_path / "in", *[3] * 8), tmp_path / "log"
    started(source, output)
    codes = []

    def second():
        run(source, output, FakeClient(log))

    thread = threading.Thread(target=lambda: codes.append(forked(second)))
    thread.start()
    run(source, output, FakeClient(log))
    thread.join()
    assert codes == [0]
    assert sorted(computed(log)) == list(range(24))
    assert results(output) == keys(24)


def test_disk_that_is_full_ends_the_job_loses_nothing_and_it_goes_on(source, output):
    """The system's own limit on a file's size stands for it: writes fail half way."""
    started(source, output)

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
        with pytest.raises(OutputError, match=r"cannot be written: .*the same command goes on"):
            run(source, output, work=Work(part=1, concurrency=1))

    assert forked(limited) == 0
    assert list((output / ".bulk/work").rglob("*.tar"))  # parts that were committed before
    assert not list(output.glob("*.tar"))
    client = FakeClient()
    run(source, output, client, Work(part=1, concurrency=1))
    assert client.calls < 9
    assert results(output) == keys(9)


def test_refined_map_that_is_no_png_fails_as_output(tmp_path, output):
    source = tmp_path / "in"
    write_tar(source / "a.tar", sample(0) | sample(1))

    class Negative(FakeClient):
        def refine(self, image, logits, **request):
            result = super().refine(image, logits, **request)
            result.labels[0, 0] = -1 if result.labels.any() else 0
            return result

    run(source, output, Negative())
    assert state_of(output).reasons == {"output": 1}


def test_same_results_are_the_same_bytes(source, tmp_path):
    outputs = [tmp_path / "one", tmp_path / "two"]
    for output, part in zip(outputs, (1, 100), strict=True):
        run(source, output, work=Work(part=part, concurrency=1))
    first, second = ({p.name: p.read_bytes() for p in each.glob("a-*")} for each in outputs)
    assert first == second


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: (out / "a-00000.tar").write_bytes(b"x"), "is not what its sidecar says"),
        (lambda out: (out / "a-00000.json").unlink(), "has no sidecar"),
        (lambda out: (out / "a-00000.tar").unlink(), "a-00000 is not done"),
        (lambda out: write_tar(out / "more.tar", {}), "is not of this job"),
    ],
)
def test_verify_names_what_is_wrong(source, output, damage, message):
    run(source, output)
    shards = started(source, output)
    assert list(verify(output, shards)) == []
    damage(output)
    (found,) = verify(output, shards)
    assert message in found


def test_verify_holds_the_keys_against_the_input(source, output):
    run(source, output)
    write_tar(source / "a-00000.tar", sample(0) | sample(70))
    found = list(verify(output, started(source, output)))
    assert [each.partition(" ")[2] for each in found] == [
        "lacks 1 images of the input, as '0070'; `bulk retry-failed` refines what was added",
        "has 4 images that the input has not, as '0001'",
    ]


def test_commit_comes_before_the_part_is_exceeded():
    for part in (1, 5, 8, 256):
        for concurrency in (1, 2, 4):
            work = Work(part=part, concurrency=concurrency)
            assert work.images_of_a_part >= 1
            assert part <= 2 * concurrency or work.images_of_a_part + 2 * concurrency == part
