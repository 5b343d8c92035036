"""Which job a folder belongs to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from sam_refine.contract import InvalidRequestError, RefineOptions
from sam_refine_bulk import OtherJobError, Source, state_of
from sam_refine_bulk.job import begin, resume
from sam_refine_bulk.outputs.layout import Layout
from support.bulk.data_sets import data_set, image, npy, sample, scores, write_tar

MODEL = {"model_card": "abc"}


def start(source, output, options=None, activation=None, model=MODEL):
    return begin(Source(str(source)), output, options or RefineOptions(), activation, None, model)


@pytest.fixture
def job(tmp_path):
    source, output = data_set(tmp_path / "in", 1, 1), tmp_path / "out"
    start(source, output)
    return source, output


def test_same_job_goes_on_wherever_its_input_is_mounted(job, tmp_path):
    source, output = job
    start(source, output)
    source.rename(tmp_path / "elsewhere")
    assert len(start(tmp_path / "elsewhere", output).shards) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": RefineOptions(iou_threshold=0.3)}, r"iou_threshold was 0\.\d+, is 0\.3"),
        ({"activation": "softmax"}, "activation was None, is softmax"),
        ({"model": {"model_card": "xyz"}}, "model_card was 'abc', is 'xyz'"),
    ],
)
def test_other_job_is_refused_and_the_difference_named(job, changes, message):
    with pytest.raises(OtherJobError, match=f"belongs to another job: {message}"):
        start(*job, **changes)


def test_other_weights_are_refused_and_what_is_not_known_of_them_is_not(job):
    _, output = job
    manifest = resume(output).manifest
    manifest.check_model(Layout(output), "model_card", MODEL)
    manifest.check_model(Layout(output), "networks_sha256", {"networks_sha256": "ab12"})
    with pytest.raises(OtherJobError, match="another job: model_card was 'abc', is 'xyz'; give"):
        manifest.check_model(Layout(output), "model_card", {"model_card": "xyz"})


def test_other_version_is_another_job(job, monkeypatch):
    monkeypatch.setattr("sam_refine_bulk.job.own_version", lambda: "99")
    with pytest.raises(OtherJobError, match=r"version was .*, is 99"):
        start(*job)


def test_input_with_more_or_fewer_shards_is_another_job(job):
    source, output = job
    write_tar(source / "new.tar", sample(9))
    with pytest.raises(OtherJobError, match=r"has 1 more shards \(new\)"):
        start(source, output)
    (source / "new.tar").unlink()
    (source / "a-00001.tar").unlink()
    with pytest.raises(OtherJobError, match=r"lacks 1 shards \(a-00001\)"):
        start(source, output)
    with pytest.raises(OtherJobError, match=r"lacks 1 shards \(a-00001\)"):
        resume(output)


def test_folder_with_another_image_is_another_job(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(2):
        (source / f"{number}.png").write_bytes(image(number))
        (source / f"{number}.logits.npy").write_bytes(npy(scores(number)))
        if number == 0:
            start(source, output)
    with pytest.raises(OtherJobError, match="other images than it had"):
        start(source, output)


def test_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    source, output = data_set(tmp_path / "in", 1), tmp_path / "out"
    output.mkdir()
    (output / "thesis.txt").touch()
    with pytest.raises(OtherJobError, match=r"has files of something else \(thesis\.txt\)"):
        start(source, output)
    assert [each.name for each in output.iterdir()] == ["thesis.txt"]
    with pytest.raises(OtherJobError, match="is no output of"):
        state_of(output)


@pytest.mark.parametrize("below", [".", "out", "a/b"])
def test_output_in_the_input_is_refused(tmp_path, below):
    source = data_set(tmp_path / "in", 1)
    with pytest.raises(InvalidRequestError, match="must not be in"):
        start(source, source / below)


def test_of_many_that_start_at_once_one_writes_the_manifest(tmp_path):
    source, output = data_set(tmp_path / "in", 1), tmp_path / "out"

    def claim(number):
        try:
            start(source, output, model={"model_card": str(number % 2)})
        except OtherJobError:
            return None
        return str(number % 2)

    with ThreadPoolExecutor(8) as pool:
        (winner,) = set(pool.map(claim, range(16))) - {None}
    assert resume(output).manifest.model == {"model_card": winner}
    assert [each.name for each in Layout(output).private.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", ".bulk/work/x"])
def test_shard_whose_name_leads_elsewhere_has_no_place(tmp_path, name):
    with pytest.raises(InvalidRequestError, match="below its folder"):
        Layout(tmp_path).place(name)
