"""Work that finds no memory is not begun."""

import numpy as np
import pytest

from sam_refine.contract import LimitExceededError, Limits
from sam_refine.service.memory import Memory
from sam_refine.service.request import read_request
from sam_refine.service.room import NoRoomError, check_room

MIB = 2**20
TENSORS = {
    "IMAGE": np.zeros((512, 1024, 3), np.uint8),
    "LOGITS": np.full((8, 32, 64), 0.125, np.float32),
}
LABELS = ["REFINED_LABELS"]
"""2 MiB of them, and 10 MiB for the work, 4 of scores on the grid."""
LOGITS = ["REFINED_LOGITS"]
"""16 MiB of them."""


def check(total_mib, free_mib, outputs=LABELS, shared_mib=None, **parameters):
    request = read_request(TENSORS, parameters, outputs, Limits())
    shared_bytes = None if shared_mib is None else shared_mib * MIB
    check_room(request, outputs, Memory(total_mib * MIB, free_mib * MIB), shared_bytes)


def test_room_that_is_enough():
    check(16, 16, shared_mib=2)
    check(30, 30, LOGITS, shared_mib=16)
    check(51, 51, judge="rule")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((15, 15), "the work needs about 16 MiB of memory, and the server has 15 MiB in all"),
        ((15, 15, LABELS, 2), "the work needs about 16 MiB of memory, and the server has 15 MiB"),
        ((99, 99, LOGITS, 15), "the outputs need 16 MiB of shared memory, and the server has 15"),
    ],
)
def test_what_can_never_find_room_is_beyond_a_limit(arguments, sentence):
    with pytest.raises(LimitExceededError, match=f"^{sentence}"):
        check(*arguments)


def test_what_finds_no_room_now_may_be_tried_again():
    with pytest.raises(NoRoomError, match=r"needs about 16 MiB of memory, and 15 MiB are free now"):
        check(99, 15)
    with pytest.raises(NoRoomError):
        check(99, 40, judge="rule")
