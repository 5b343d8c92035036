"""Work that finds no memory is not begun."""

import numpy as np
import pytest

from sam_refine.contract import LimitExceededError, Limits
from sam_refine.service import room as module
from sam_refine.service.budget import Budget, Needs
from sam_refine.service.memory import Memory
from sam_refine.service.request import read_request
from sam_refine.service.room import NoRoomError, room

MIB = 2**20
TENSORS = {
    "IMAGE": np.zeros((512, 1024, 3), np.uint8),
    "LOGITS": np.full((8, 32, 64), 0.125, np.float32),
}
LABELS = ["REFINED_LABELS"]
"""2 MiB of them, and 10 MiB for the work, 4 of scores on the grid."""
LOGITS = ["REFINED_LOGITS"]
"""16 MiB of them."""


@pytest.fixture
def enter(monkeypatch):
    """enter(total_mib, free_mib, outputs, shared=(total, free), held=Needs(), **parameters).

    Gives the most prompts of a call of the decoder.
    """

    def enter(total_mib, free_mib, outputs=LABELS, shared=None, held=None, **parameters):
        shared_memory = shared and Memory(shared[0] * MIB, shared[1] * MIB)
        monkeypatch.setattr(
            module, "system_memory", lambda: Memory(total_mib * MIB, free_mib * MIB)
        )
        monkeypatch.setattr(module, "shared_memory", lambda: shared_memory)
        request = read_request(TENSORS, parameters, outputs, Limits())
        budget = Budget(None)
        shares = shared is not None
        with (
            budget.reserved(lambda promised: held or Needs(0)),
            room(request, TENSORS, outputs, budget, shares_memory=shares) as most_prompts,
        ):
            return most_prompts

    return enter


def test_room_that_is_enough(enter):
    assert enter(16, 16) == 32
    assert enter(30, 30, LOGITS) == 32
    assert enter(51, 51, judge="rule") == 32
    assert enter(999, 999, LOGITS, (256, 250)) == 32


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((15, 15), "the work needs about 16 MiB of memory, and the server has 15 MiB in all"),
        ((99, 99, LOGITS, (256, 256)), "the work needs about 1[0-9][0-9] MiB of memory, and the"),
        ((999, 999, LOGITS, (40, 40)), "the tensors need about 5[0-9] MiB of shared memory, and"),
    ],
)
def test_what_can_never_find_room_is_beyond_a_limit(enter, arguments, sentence):
    with pytest.raises(LimitExceededError, match=f"^{sentence}"):
        enter(*arguments)


def test_what_finds_no_room_now_may_be_tried_again(enter):
    with pytest.raises(NoRoomError, match=r"needs about 16 MiB of memory, and 15 MiB are free now"):
        enter(99, 15)
    with pytest.raises(NoRoomError):
        enter(99, 40, judge="rule")
    with pytest.raises(NoRoomError, match=r"more of shared memory, and 20 MiB are free now"):
        enter(999, 999, LOGITS, (256, 20))


def test_room_that_others_have_reserved_is_not_free(enter):
    enter(999, 999, held=Needs(900 * MIB))
    with pytest.raises(NoRoomError, match=r"of memory, and \d+ MiB are free now"):
        enter(999, 999, held=Needs(990 * MIB))
    enter(999, 999, LOGITS, (256, 250), Needs(0, 150 * MIB))
    with pytest.raises(NoRoomError, match=r"of shared memory, and 50 MiB are free now"):
        enter(999, 999, LOGITS, (256, 250), Needs(0, 200 * MIB))


def test_calls_of_the_decoder_are_smaller_where_shared_memory_is_short(enter):
    assert 1 <= enter(999, 999, shared=(256, 60)) < 32
