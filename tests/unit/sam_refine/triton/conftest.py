"""The wing is imported here without Triton: a fake stands for what only a stub has."""

import pytest

from support import fake_stub


@pytest.fixture(autouse=True)
def stub():
    fake_stub.reset()
    yield fake_stub
    assert not fake_stub.MISUSES  # each of them would have ended the server
