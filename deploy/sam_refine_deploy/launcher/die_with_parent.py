"""Becomes a program that ends with its parent: `die_with_parent.py PARENT_PID PROGRAM ARGUMENT...`.

A program of its own instead of a `preexec_fn`, which is unsafe in a process with threads.
Linux only. The kernel watches the *thread* that started this process, not its whole process.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; survives execv
STACK_BYTES = 2**32
"""Of a thread, in address space: Triton 2.51 copies what comes over HTTP as a form onto it."""
FILES = 65536
"""Each connection takes one: a server that has none left answers nobody."""


def main() -> None:
    parent_pid, program = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:
        sys.exit("the parent ended before the program could start")
    raise_stack_limit()
    raise_file_limit()
    os.execv(program[0], program)


def raise_stack_limit() -> None:
    """As far as it may be, where address space is not limited itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    is_free = resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    if is_free and soft != resource.RLIM_INFINITY and soft < STACK_BYTES:
        most = STACK_BYTES if hard == resource.RLIM_INFINITY else min(STACK_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_STACK, (most, hard))


def raise_file_limit() -> None:
    """As far as it may be: a shell's is often 1024, for programs that select() among files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    main()
