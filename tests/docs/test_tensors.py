"""docs/tensors.md has the contract's tensors, and what it shows to type works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient.utils import InferenceServerException

from sam_refine.contract import (
    IMAGE_ID,
    MAX_MESSAGE_BYTES,
    MODELS,
    PRESET,
    SAM_REFINE,
    STAGES,
    MaskPromptMode,
    RefineOptions,
    TensorSpec,
)
from sam_refine.contract.serving.turns import WORK_TIME_S
from sam_refine_client import RefineClient
from support.cases import coarse_scores, photo

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tensors.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
(SHOWN,) = map(json.loads, re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
PHOTO = ROOT / "cli/sam_refine_cli/demo_data/coffee/photo.jpg"


def section(title: str) -> str:
    """What stands under a heading, up to the next one."""
    (text,) = re.findall(
        rf"^##+ {re.escape(title)}$(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    return text


def table(title: str, first: str) -> list[list[str]]:
    """The cells of the table in a section whose first column has a name."""
    (rows,) = re.findall(
        rf"^\| {first} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", section(title), re.MULTILINE
    )
    return [[cell.strip() for cell in row[1:-1].split(" | ")] for row in rows.splitlines()]


def as_written(spec: TensorSpec) -> list[str]:
    sizes = ", ".join(map(str, spec.shape))
    return [f"`{spec.name}`", spec.datatype, f"({sizes}{',' if len(spec.shape) == 1 else ''})"]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_tables_have_the_contract_s_tensors(model):
    optional = {True: "yes", False: "no"}
    inputs, outputs = table(f"`{model.name}`", "input"), table(f"`{model.name}`", "output")
    assert [row[:4] for row in inputs] == [
        [*as_written(spec), optional[spec.optional]] for spec in model.inputs
    ]
    assert [row[:3] for row in outputs] == [as_written(spec) for spec in model.outputs]
    assert ("**batch axis**" in section(f"`{model.name}`")) == model.batched


def test_page_has_the_contract_s_words_and_numbers():
    assert ", ".join(STAGES) in section("`sam_refine`")
    assert str(MAX_MESSAGE_BYTES) in section("Bytes")
    (modes,) = [row[-1] for row in table("`sam_mask_decoder`", "input") if "mode" in row[0]]
    assert modes == ", ".join(f"{mode.value} {mode.name.lower()}" for mode in MaskPromptMode)


def test_parameters_are_the_options_and_their_types():
    def kind(value):
        if isinstance(value, Enum):
            return "text"
        return {bool: "flag", float: "number", int: "integer", type(None): "integer"}[type(value)]

    rows = {name.strip("`"): text for name, text in table("Request parameters", "parameter")}
    defaults = RefineOptions()
    assert rows.pop(IMAGE_ID).startswith("text of 1 to 256 characters")
    assert rows.pop(WORK_TIME_S).startswith("number: seconds")
    assert rows.pop(PRESET).startswith("text: one of the [presets]")
    assert rows == {
        option.name: kind(getattr(defaults, option.name)) for option in fields(RefineOptions)
    }


def test_statuses_are_those_that_the_client_guide_has():
    guide = (ROOT / "docs/client.md").read_text(encoding="utf-8")
    for status, *_ in table("Errors", "gRPC"):
        assert status in guide or status == "INTERNAL"


def run(block: str, server, directory: Path) -> str:
    """Run commands of the page as a reader does in the project's folder; what they print."""
    addresses = {"8000": server.http_port, "8001": server.grpc_port}
    for port, ours in addresses.items():
        block = block.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ours}")
    cli = directory / "cli"
    if not cli.exists():
        cli.symlink_to(ROOT / "cli")
    path = [str(directory / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = os.environ | {"PATH": os.pathsep.join(path), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        ["sh", "-eu", "-c", block],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    return done.stdout.decode()


@pytest.fixture(scope="module")
def refined(infer):
    """What the examples ask for, by NVIDIA's own client."""
    image = np.array([PHOTO.read_bytes()], np.object_)
    return infer(
        {"ENCODED_IMAGE": image, "LOGITS_FP16": coarse_scores()},
        ["REFINED_LABELS_UINT8", "REGION_CLASSES", "REGION_KEPT"],
        {"min_region_area": 225},
    )


def needs(*commands: str) -> None:
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


@pytest.mark.triton
def test_curl_example_gives_the_map(server, tmp_path, refined):
    needs("curl")
    answer = json.loads(run(BLOCKS[0], server, tmp_path))
    assert without_data(answer, "REGION_KEPT") == without_data(SHOWN, "REGION_KEPT")
    with Image.open(tmp_path / "labels.pgm") as picture:
        np.testing.assert_array_equal(np.asarray(picture), refined["REFINED_LABELS_UINT8"])
    outputs = {output["name"]: output.get("data") for output in answer["outputs"]}
    assert outputs["REGION_CLASSES"] == refined["REGION_CLASSES"].tolist()
    assert outputs["REGION_KEPT"] == refined["REGION_KEPT"].tolist()


def without_data(answer: dict[str, Any], name: str) -> dict[str, Any]:
    """An answer of Triton, of one of its outputs the shape alone."""
    outputs = [
        {key: value for key, value in output.items() if (output["name"], key) != (name, "data")}
        for output in answer["outputs"]
    ]
    return {**answer, "outputs": outputs}


def test_regions_that_the_page_shows_as_kept_are_kept_by_mobile_sam(mobile_sam_repository):
    with RefineClient.local(mobile_sam_repository) as client:
        result = client.refine(
            PHOTO.read_bytes(), logits=coarse_scores(), options={"min_region_area": 225}
        )
    (kept,) = (output["data"] for output in SHOWN["outputs"] if output["name"] == "REGION_KEPT")
    assert [region.kept for region in result.regions] == kept


@pytest.mark.triton
def test_grpcurl_example_gives_the_map(server, tmp_path, refined):
    needs("jq")
    if shutil.which("grpcurl") is None:
        stand_in = tmp_path / "bin/grpcurl"
        stand_in.parent.mkdir()
        program = Path(__file__).with_name("grpcurl_in_python.py")
        stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n')
        stand_in.chmod(0o755)
    start = BLOCKS[0].partition("bytes=")[0]
    printed = run("\n".join((start, *BLOCKS[1:])), server, tmp_path)
    assert printed.split() == [str(each) for each in refined["REGION_CLASSES"]]
    assert f"`{' '.join(printed.split())}`" in section("grpcurl")
    with Image.open(tmp_path / "labels_grpc.pgm") as picture:
        np.testing.assert_array_equal(np.asarray(picture), refined["REFINED_LABELS_UINT8"])


@pytest.mark.triton
def test_node_example_gives_the_map(server, tmp_path, refined):
    needs("node", "npm")
    packages = re.findall(r"`npm install ([^`]*)`", section("Node, and other languages"))[0].split()
    install = ["npm", "install", "--prefix", str(tmp_path), "--no-audit", "--no-fund", *packages]
    installed = subprocess.run(install, capture_output=True, text=True)
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install {' '.join(packages)}: {installed.stderr.strip()[-300:]}")
    run(BLOCKS[1], server, tmp_path)
    (script,) = re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "refine.mjs").write_text(script, encoding="utf-8")
    printed = run("node refine.mjs 127.0.0.1:8001", server, tmp_path)
    assert printed.split() == [str(each) for each in refined["REGION_CLASSES"]]
    with Image.open(tmp_path / "labels_node.pgm") as picture:
        np.testing.assert_array_equal(np.asarray(picture), refined["REFINED_LABELS_UINT8"])

    wrong = script.replace('"trident"', '"tridents"')
    assert wrong != script
    (tmp_path / "refine.mjs").write_text(wrong, encoding="utf-8")
    command = ["node", "refine.mjs", f"127.0.0.1:{server.grpc_port}"]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert refused.stderr.startswith("INVALID_ARGUMENT mask_prompt must be one of")


def http_status(server, model: str, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    url = f"http://127.0.0.1:{server.http_port}/v2/models/{model}/infer"
    try:
        with urllib.request.urlopen(url, json.dumps(request).encode(), timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


SMALL = {
    "inputs": [
        {"name": "IMAGE", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 3]},
        {"name": "LOGITS", "datatype": "FP32", "shape": [2, 1, 1], "data": [1.0, 0.0]},
    ],
}


@pytest.mark.triton
def test_error_statuses_are_those_of_the_table(server, infer):
    statuses = {row[0]: row[1] for row in table("Errors", "gRPC")}
    cases = {"INVALID_ARGUMENT": "sam_refine", "NOT_FOUND": "sam_split"}
    for status, model in cases.items():
        code, answer = http_status(server, model, {"inputs": []})
        assert (str(code), list(answer)) == (statuses[status], ["error"])
    with pytest.raises(InferenceServerException) as caught:
        infer({}, ["REGION_KEPT"])
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException) as caught:
        infer({}, ["REGION_KEPT"], model="sam_split")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


@pytest.mark.triton
def test_http_answers_in_the_table_s_order_and_takes_parameters_as_text(server):
    named = [{"name": name} for name in reversed(SAM_REFINE.output_names)]
    texts = {"iou_threshold": "0.5", "multimask_output": "true", "min_region_area": "2"}
    for outputs in ({}, {"outputs": named}):
        code, answer = http_status(server, "sam_refine", {**SMALL, **outputs, "parameters": texts})
        assert code == 200
        found = [output["name"] for output in answer["outputs"]]
        assert found == list(SAM_REFINE.output_names)
    code, answer = http_status(server, "sam_refine", {**SMALL, "parameters": {"mask_prompt": "?"}})
    assert code == 400
    assert "mask_prompt must be one of" in str(answer["error"])


@pytest.mark.triton
def test_fp16_in_json_is_refused(server):
    fp16 = {"name": "LOGITS_FP16", "datatype": "FP16", "shape": [1, 1, 1], "data": [1.0]}
    code, answer = http_status(server, "sam_refine", {"inputs": [SMALL["inputs"][0], fp16]})
    assert code == 400
    assert "FP16" in str(answer["error"])


@pytest.mark.triton
def test_map_without_regions_comes_back_as_it_was(infer):
    found = infer(
        {"IMAGE": photo(20, 30), "LOGITS_FP16": coarse_scores()[:, :20, :30]},
        SAM_REFINE.output_names,
        {"min_region_area": 10_000},
    )
    assert found["REGION_BOXES"].shape == found["BOXES"].shape == (0, 4)
    np.testing.assert_array_equal(found["REFINED_LABELS"], found["COARSE_LABELS"])
