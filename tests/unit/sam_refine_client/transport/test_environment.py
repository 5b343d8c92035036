"""What the environment says of the server, for who says nothing else."""

from __future__ import annotations

import re

import pytest

from sam_refine.contract import InvalidRequestError
from sam_refine_client import AsyncRefineClient, ConnectionOptions, RefineClient, Retries, Tls
from sam_refine_client.transport.environment import environment_options, environment_urls
from support.fake_triton import FakeTriton


@pytest.mark.parametrize(
    ("value", "urls"),
    [
        (None, ["127.0.0.1:8001"]),
        ("", ["127.0.0.1:8001"]),
        ("a:1", ["a:1"]),
        (" a:1, b:2 c:3 ", ["a:1", "b:2", "c:3"]),
    ],
)
def test_addresses_are_those_of_the_variable(value, urls):
    assert environment_urls({} if value is None else {"SAM_REFINE_URL": value}) == urls


def test_options_are_those_of_the_variables():
    assert environment_options({}) == ConnectionOptions()
    found = environment_options(
        {
            "SAM_REFINE_TLS_CA": "ca.pem",
            "SAM_REFINE_TLS_SERVER_NAME": "triton",
            "SAM_REFINE_HEADER": "authorization=Bearer abc; X-Key=1=2",
            "SAM_REFINE_ATTEMPTS": "3",
        }
    )
    assert found == ConnectionOptions(
        tls=Tls(root_certificates="ca.pem", server_name="triton"),
        headers={"authorization": "Bearer abc", "x-key": "1=2"},
        retries=Retries(attempts=3),
    )
    for value, tls in (("1", Tls()), ("true", Tls()), ("no", None), ("0", None), ("", None)):
        assert environment_options({"SAM_REFINE_TLS": value}).tls == tls


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SAM_REFINE_TLS", "maybe", "SAM_REFINE_TLS must be true or false, got 'maybe'"),
        ("SAM_REFINE_ATTEMPTS", "0", "SAM_REFINE_ATTEMPTS must be an integer >= 1, got '0'"),
        ("SAM_REFINE_HEADER", "secret", "SAM_REFINE_HEADER must be NAME=VALUE"),
    ],
)
def test_values_that_are_wrong_are_refused_and_no_secret_shown(variable, value, message):
    with pytest.raises(InvalidRequestError, match=f"^{re.escape(message)}$"):
        environment_options({variable: value})


@pytest.mark.parametrize("kind", [RefineClient, AsyncRefineClient])
def test_client_without_an_address_takes_the_environments(kind, monkeypatch):
    monkeypatch.setenv("SAM_REFINE_URL", "triton.example:9001")
    monkeypatch.setenv("SAM_REFINE_ATTEMPTS", "5")
    assert kind()._arguments["url"] == "triton.example:9001"
    assert kind("b:1")._arguments["url"] == "b:1"


def test_headers_of_the_environment_do_not_go_to_an_address_given_by_hand(monkeypatch, small):
    monkeypatch.setenv("SAM_REFINE_HEADER", "x-key=abc")
    with FakeTriton() as server:
        monkeypatch.setenv("SAM_REFINE_URL", server.address)
        for client in (RefineClient(), RefineClient(server.address)):
            with client:
                client.refine(**small)
        found = [seen.headers.get("x-key") for seen in server.calls()]
    assert found == ["abc", None]
