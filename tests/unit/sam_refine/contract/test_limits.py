"""What one deployment accepts."""

import pytest

from sam_refine.contract import InvalidRequestError, Limits


def test_limits_read_their_own_parameters_only():
    limits = Limits.from_parameters({"max_regions": "7", "something_else": "x"})
    assert limits == Limits(max_regions=7)


def test_limits_must_be_positive_integers():
    with pytest.raises(InvalidRequestError, match="max_classes must be an integer >= 1, got 'a'"):
        Limits.from_parameters({"max_classes": "a"})
    with pytest.raises(InvalidRequestError, match=r"allow_image_ids must be .* in \[0, 1\], got"):
        Limits(allow_image_ids=2)
