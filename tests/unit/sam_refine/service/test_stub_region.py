"""Which part of /dev/shm is a stub's, and how large it is."""

import pytest

from sam_refine.service.stub_region import own_region, region_bytes, sibling_bytes

UUIDS = [f"0b800077-ff4e-47f6-9262-1d139316861{digit}" for digit in range(4)]
STUB, OTHER, CALLEE = (f"run_1_python{uuid}" for uuid in UUIDS[:3])


@pytest.fixture
def regions(tmp_path, monkeypatch):
    monkeypatch.setattr("sam_refine.service.stub_region.SHARED_MEMORY", tmp_path)
    for size, name in enumerate((STUB, OTHER, CALLEE, f"run_2_python{UUIDS[3]}"), 1):
        (tmp_path / name).write_bytes(bytes(size))


@pytest.mark.parametrize("slash", ["", "/"])
def test_stub_finds_its_region_among_its_arguments(regions, tmp_path, slash):
    arguments = tmp_path / "cmdline"
    words = ["stub", "/models/sam_refine/1/model.py", f"{slash}{STUB}", "1048576", "1", ""]
    arguments.write_bytes("\0".join(words).encode())
    assert own_region(arguments) == STUB


def test_process_that_is_no_stub_has_no_region(regions, tmp_path):
    assert own_region() == own_region(tmp_path / "none") == ""
    assert region_bytes("") == region_bytes("none") == sibling_bytes("", ()) == 0


def test_regions_of_the_same_server_are_told_by_their_names(regions):
    assert region_bytes(STUB) == 1
    assert sibling_bytes(STUB, {OTHER}) == 3
    assert sibling_bytes(STUB, ()) == 2 + 3
