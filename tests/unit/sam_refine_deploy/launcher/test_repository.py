from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sam_refine_deploy import ServeError
from sam_refine_deploy.launcher.repository import check_repository, is_complete

SOURCE = Path(__file__).parents[4] / "model_repository"


@pytest.fixture
def repository(tmp_path) -> Path:
    """The project's own model repository, its networks in place."""
    path = tmp_path / "models"
    shutil.copytree(SOURCE, path)
    for model in ("sam_image_encoder", "sam_mask_decoder"):
        (path / model / "1" / "model.onnx").touch()
    return path


def test_complete_repository_passes(repository):
    check_repository(repository)


def test_repository_as_in_the_sources_lacks_its_networks(repository):
    for network in repository.glob("*/1/model.onnx"):
        network.unlink()
    with pytest.raises(ServeError) as error:
        check_repository(repository)
    assert str(error.value) == (
        f"the model repository {repository} lacks sam_image_encoder/1/model.onnx, "
        "sam_mask_decoder/1/model.onnx; `sam-refine export` makes a complete one"
    )


def test_repository_that_is_not_there_says_what_makes_it(tmp_path):
    with pytest.raises(ServeError, match=r"no model repository at .*`sam-refine export` makes one"):
        check_repository(tmp_path / "nothing")


@pytest.mark.parametrize("file", ["sam_embed/config.pbtxt", "sam_refine/1/model.py"])
def test_repository_without_a_file_names_it(repository, file):
    (repository / file).unlink()
    with pytest.raises(ServeError, match=f"lacks {file}; "):
        check_repository(repository)


def test_repository_with_another_version_and_filename_passes(repository):
    decoder = repository / "sam_mask_decoder"
    (decoder / "1").rename(decoder / "7")
    (decoder / "7" / "model.onnx").rename(decoder / "7" / "decoder.onnx")
    with (decoder / "config.pbtxt").open("a") as config:
        config.write('\ndefault_model_filename: "decoder.onnx"\n')
    check_repository(repository)


def test_repository_with_a_backend_of_its_own_rules_is_left_to_the_server(repository):
    encoder = repository / "sam_image_encoder"
    config = encoder / "config.pbtxt"
    config.write_text(config.read_text().replace('"onnxruntime"', '"tensorrt"'))
    (encoder / "1" / "model.onnx").rename(encoder / "1" / "model.plan")
    check_repository(repository)


def test_repository_of_ours_needs_no_completion(repository):
    (repository / "model_card.json").touch()
    assert is_complete(repository)


def test_repository_with_a_model_of_others_is_completed_by_triton(repository):
    shutil.copytree(repository / "sam_preprocess", repository / "my_network")
    assert not is_complete(repository)


@pytest.mark.parametrize("what", ["input", "output"])
def test_repository_whose_configuration_does_not_name_tensors_is_completed(repository, what):
    config = repository / "sam_image_encoder" / "config.pbtxt"
    config.write_text(config.read_text().replace(f"{what} [", "# ["))
    assert not is_complete(repository)


def test_repository_in_which_a_model_has_no_configuration_is_completed(repository):
    (repository / "sam_mask_judge").mkdir(exist_ok=True)
    (repository / "sam_mask_judge" / "config.pbtxt").unlink(missing_ok=True)
    assert not is_complete(repository)
