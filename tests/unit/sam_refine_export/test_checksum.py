import hashlib

import pytest

from sam_refine_export.checksum import sha256


@pytest.mark.parametrize("size", [0, 3, 1 << 20, (1 << 20) + 1, (2 << 20) + 5])
def test_sha256_is_that_of_the_whole_file_whatever_its_blocks(tmp_path, size):
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
