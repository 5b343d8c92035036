"""What a process may take, in a container too."""

import pytest

from sam_refine.service.memory import Memory, system_memory

SYSTEM = 64 * 2**30


@pytest.fixture(autouse=True)
def system(monkeypatch):
    class Virtual:
        total, available = SYSTEM, SYSTEM // 2

    monkeypatch.setattr("psutil.virtual_memory", Virtual)


def container(root, cgroup, files):
    """A system whose /proc/self/cgroup says `cgroup`; `files` lie in /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def version_2(path, limit, used, cache=0):
    return {
        f"{path}/memory.max": limit,
        f"{path}/memory.current": used,
        f"{path}/memory.stat": f"anon 1\ninactive_file {cache}",
    }


def version_1(path, limit, used, cache=0):
    return {
        f"memory{path}/memory.limit_in_bytes": limit,
        f"memory{path}/memory.usage_in_bytes": used,
        f"memory{path}/memory.stat": f"cache 1\ntotal_inactive_file {cache}",
    }


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("", {}, Memory(SYSTEM, SYSTEM // 2)),
        ("0::/", version_2("", 4000, 1000, 300), Memory(4000, 3300)),
        ("0::/", version_2("", "max", 1000), Memory(SYSTEM, SYSTEM // 2)),
        ("0::/pod/c", version_2("pod/c", "max", 10) | version_2("pod", 900, 100), Memory(900, 800)),
        ("0::/of/the/host", version_2("", 4000, 1000), Memory(4000, 3000)),
        ("0::/", version_2("", 4000, 5000), Memory(4000, 0)),
        ("4:memory:/c\n0::/", version_1("/c", 700, 100, 50), Memory(700, 650)),
        ("4:memory:/c", version_1("/c", 2**63 - 4096, 100), Memory(SYSTEM, SYSTEM // 2)),
        ("4:cpu,memory:/c", version_1("", 700, 100), Memory(700, 600)),
        ("4:cpu:/c", version_1("", 700, 100), Memory(SYSTEM, SYSTEM // 2)),
    ],
)
def test_memory_is_the_least_of_system_and_cgroups(tmp_path, cgroup, files, expected):
    assert system_memory(container(tmp_path, cgroup, files)) == expected


def test_without_cgroups_it_is_the_system_s(tmp_path):
    assert system_memory(tmp_path) == Memory(SYSTEM, SYSTEM // 2)
