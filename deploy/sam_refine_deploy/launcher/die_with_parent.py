"""Becomes a program that ends with its parent: `die_with_parent.py PARENT_PID PROGRAM ARGUMENT...`.

A program of its own instead of a `preexec_fn`, which is unsafe in a process with threads.
Linux only. The kernel watches the *thread* that started this process, not its whole process.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h; survives execv


def main() -> None:
    parent_pid, program = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:
        sys.exit("the parent ended before the program could start")
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
