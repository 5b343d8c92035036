"""The chart's Envoy before two real servers, one of which is killed with requests in flight."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from support.certificates import Authority
from support.chart.balanced import TLS_FILES, balancing
from support.chart.rendered import RELEASE, render
from support.servers import get, supervised, wait_until
from support.tiny_models import ZEROS_MODEL, make_repository, replace_by_zeros

pytestmark = pytest.mark.triton

IMAGE = np.zeros((2000, 3000, 3), np.uint8)
"""18 MB: more than Envoy keeps of a request unless it is told to."""
CALLERS = 6


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """`sam_refine` answers with zeros, after a second."""
    models = make_repository(tmp_path_factory.mktemp("envoy") / "models")
    replace_by_zeros(models)
    slow = ZEROS_MODEL.replace(
        "        return [self", "        time.sleep(1)\n        return [self"
    )
    (models / "sam_refine/1/model.py").write_text(f"import time\n{slow}", encoding="utf-8")
    return models


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    """The files of the secret: a certificate for servers and Envoy, and who has signed it."""
    folder = tmp_path_factory.mktemp("secret")
    authority = Authority(folder, "ours")
    certificate = authority.certificate(f"{RELEASE}-headless")
    for path, name in zip(
        (certificate.chain, certificate.key, authority.root), TLS_FILES, strict=True
    ):
        path.rename(folder / name)
    return folder


def flags_of(values, secret):
    """The chart's own arguments for Triton; connections are asked to end every second."""
    (container,) = render(values)["Deployment", ""]["spec"]["template"]["spec"]["containers"]
    of_triton = container["args"][container["args"].index("--") + 1 :]
    assert "--grpc-max-connection-age=600000" in of_triton
    return [word.replace("/tls/", f"{secret}/").replace("=600000", "=1000") for word in of_triton]


def test_no_request_is_lost_where_a_server_is_killed(models, secret, tmp_path):
    options = {"extra_arguments": flags_of({}, secret)}
    with (
        supervised(models, tmp_path / "first.log", options=options) as first,
        supervised(models, tmp_path / "second.log", options=options) as second,
        balancing([first, second], secret, {}) as envoy,
    ):
        is_killed = threading.Event()

        def call_until_killed():
            """Answers, with a last one that began after the kill."""
            answers = 0
            with client_of(envoy) as client:
                is_last = False
                while not is_last:
                    is_last = is_killed.is_set()
                    answer(client)
                    answers += 1
            return answers

        with ThreadPoolExecutor(CALLERS) as pool:
            callers = [pool.submit(call_until_killed) for _ in range(CALLERS)]
            wait_until(lambda: any(each.done() for each in callers) or min(envoy.active()) > 0)
            server = first.server
            os.kill(first.process.pid, signal.SIGKILL)
            os.kill(server, signal.SIGKILL)
            is_killed.set()
            answers = sum(each.result() for each in callers)
        assert answers >= CALLERS
        assert envoy.stat("cluster.servers.upstream_rq_retry_success") > 0
        wait_until(lambda: envoy.stat("cluster.servers.membership_healthy") == 1)
        status, metrics = get(f"http://127.0.0.1:{envoy.health_port}/metrics")
        assert status == 200
        assert 'envoy_cluster_upstream_rq_retry{envoy_cluster_name="servers"}' in metrics
    assert "Deprecated" not in (secret / "envoy.log").read_text()


def test_mutual_tls_goes_from_the_caller_to_the_server(models, secret, tmp_path):
    values = {"tls": {"enabled": True, "secretName": "tls", "mutual": True}}
    flags = flags_of(values, secret)
    assert len(flags) == 6
    options = {"extra_arguments": flags}
    with (
        supervised(models, tmp_path / "serve.log", options=options) as server,
        balancing([server], secret, values) as envoy,
    ):
        with client_of(envoy, secret) as client:
            answer(client)
        with client_of(envoy) as client, pytest.raises(InferenceServerException):
            client.is_server_live()
        (root, name) = secret / TLS_FILES[2], f"{RELEASE}-headless"
        nameless = grpc.InferenceServerClient(
            f"127.0.0.1:{envoy.port}", ssl=True, root_certificates=str(root),
            channel_args=[("grpc.ssl_target_name_override", name)],
        )  # fmt: skip
        with nameless as client, pytest.raises(InferenceServerException):
            client.is_server_live()


def client_of(envoy, secret=None):
    """NVIDIA's own, which never tries again; with the files of a secret, by TLS."""
    url = f"127.0.0.1:{envoy.port}"
    if secret is None:
        return grpc.InferenceServerClient(url)
    certificate, key, root = (str(secret / name) for name in TLS_FILES)
    name = [("grpc.ssl_target_name_override", f"{RELEASE}-headless")]
    return grpc.InferenceServerClient(
        url, ssl=True, root_certificates=root, private_key=key, certificate_chain=certificate,
        channel_args=name,
    )  # fmt: skip


def answer(client):
    tensor = grpc.InferInput("IMAGE", list(IMAGE.shape), "UINT8")
    tensor.set_data_from_numpy(IMAGE)
    wanted = [grpc.InferRequestedOutput("STAGE_TIMES_MS")]
    result = client.infer("sam_refine", [tensor], outputs=wanted)
    np.testing.assert_array_equal(result.as_numpy("STAGE_TIMES_MS"), np.zeros(7))
