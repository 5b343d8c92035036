"""A request that fails by the server's fault has a line with its id in the log."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from sam_refine.contract import SAM_MASK_DECODER, SAM_REFINE
from sam_refine_client import (
    Embedding,
    RefineClient,
    RefineError,
    RefineOptions,
    RejectedError,
)
from support.servers import supervised
from support.tiny_models import CONFIG, ROOT

pytestmark = pytest.mark.triton

BROKEN_MODEL = """
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        error = pb.TritonError("it is broken")
        return [pb.InferenceResponse(error=error) for request in requests]
"""
SCORES = np.eye(2, dtype=np.float32).repeat(4, axis=0).reshape(2, 4, 2)


@pytest.fixture
def broken_decoder(tiny_repository):
    """The real `sam_refine`, with a decoder that answers with an error."""
    for model in (SAM_REFINE.name, SAM_MASK_DECODER.name):
        shutil.rmtree(tiny_repository / model)
        shutil.copytree(ROOT / "model_repository" / model, tiny_repository / model)
    decoder = tiny_repository / SAM_MASK_DECODER.name
    config = (decoder / CONFIG).read_text(encoding="utf-8").partition("model_warmup")[0]
    (decoder / CONFIG).write_text(config.replace("onnxruntime", "python"), encoding="utf-8")
    (decoder / "1").mkdir(exist_ok=True)
    (decoder / "1/model.py").write_text(BROKEN_MODEL, encoding="utf-8")
    return tiny_repository


def test_failure_of_a_network_is_logged_with_the_request_s_id(broken_decoder, tmp_path):
    embedding = Embedding(np.zeros((1, 256, 64, 64), np.float32), (40, 20))
    log = tmp_path / "serve.log"
    with (
        supervised(broken_decoder, log, options={"log_to_stderr": True}) as service,
        RefineClient(service.url) as client,
    ):
        with pytest.raises(RefineError, match="it is broken") as raised:
            client.refine(embedding=embedding, logits=SCORES)
        with pytest.raises(RejectedError, match="max_regions"):  # its caller's fault
            client.refine(embedding=embedding, logits=SCORES, options=RefineOptions(max_regions=1))
    (line,) = re.findall(r"^.*request '\w+'.*$", log.read_text(), re.MULTILINE)
    assert line.startswith("W")
    message = f"request '{raised.value.request_id}': model_failed: sam_mask_decoder: it is broken"
    assert message in line
