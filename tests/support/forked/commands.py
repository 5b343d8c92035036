"""`sam-refine` in a process forked from one that has imported it, which takes most of its time.

What a command does is its own all the same: its process, its output, its folder, its exit code.
This module is both ends: the tests import it, and it is the program that forks.
"""

from __future__ import annotations

import array
import atexit
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

IMPORTED: Final = {
    "": (
        "sam_refine_cli.app",
        "sam_refine_client",
        "sam_refine_client.inputs.images",
        "sam_refine_client.inputs.coarse_maps",
    ),
    "bulk": ("sam_refine_bulk", "sam_refine_bulk.job", "sam_refine_bulk.inputs.parquet"),
    "evaluate": ("sam_refine_quality", "sam_refine_client.transport.local"),
    "tune": ("sam_refine_quality.tuning.tune", "sam_refine_client.transport.local"),
}
"""What is imported before the fork: for each command, and for the first of some kinds."""
MAY_DIFFER: Final = ("SAM_REFINE_", "PYTEST_CURRENT_TEST")
"""Variables that nothing looks at when it is imported."""
_MOST_BYTES: Final = 2**20


class ForkingCommands:
    """Commands one after the other, in processes that a process beside this one forks."""

    def __init__(self, program: str) -> None:
        """`program`: what a command finds in `sys.argv` as its name."""
        self._program = program
        self._environment = dict(os.environ)
        self._lock = threading.Lock()
        self._start()
        atexit.register(self.end)

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdout=subprocess.DEVNULL,
                env=self._environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # so that it can be killed with its command
            )

    def takes(self, environment: Mapping[str, str]) -> bool:
        """Whether a command with such variables is the same if it is forked."""
        mine = self._environment
        differing = {
            name for name in mine.keys() | environment if mine.get(name) != environment.get(name)
        }
        return all(name.startswith(MAY_DIFFER) for name in differing)

    def run(
        self, words: Sequence[str], cwd: str, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; it is killed where the test ends sooner."""
        request = json.dumps([self._program, list(words), cwd, dict(environment)]).encode()
        with self._lock, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            descriptors = array.array("i", [out.fileno(), err.fileno()])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
            try:
                self._socket.sendmsg([request], rights)
                answer = self._socket.recv(_MOST_BYTES)
                assert answer, "the process that forks commands has ended"
            except BaseException:
                self.end()
                self._start()
                raise
            texts = [_text(file.fileno()) for file in (out, err)]
        return subprocess.CompletedProcess([*words], int(answer), *texts)

    def end(self) -> None:
        self._socket.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _text(descriptor: int) -> str:
    """A whole file, as `subprocess` has it with `text=True`."""
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    return data.decode().replace("\r\n", "\n").replace("\r", "\n")


def _serve(commands: socket.socket) -> None:
    """Fork a process for each command that is asked for, until nobody asks any more."""
    # As `main` of the command does, before it imports the same.
    os.environ.setdefault("TERMINAL_WIDTH", "100")
    _import("")
    importlib.import_module("sam_refine_cli.app").make_app()  # all commands
    while True:
        request, rights, _, _ = commands.recvmsg(_MOST_BYTES, socket.CMSG_SPACE(8))
        if not request:
            return
        descriptors = array.array("i", rights[0][2])
        program, words, cwd, environment = json.loads(request)
        _import(words[0] if words else "")
        child = os.fork()
        if child == 0:
            commands.close()
            for standard, descriptor in enumerate(descriptors, start=1):
                os.dup2(descriptor, standard)
                os.close(descriptor)
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(cwd)
            sys.argv = [program, *words]
            _become_command()
        for descriptor in descriptors:
            os.close(descriptor)
        status = os.waitpid(child, 0)[1]
        commands.send(str(os.waitstatus_to_exitcode(status)).encode())


def _import(command: str) -> None:
    for module in IMPORTED.get(command, ()):
        importlib.import_module(module)


def _become_command() -> Any:
    """Do all that Python does with a program, to the end of the process."""
    from sam_refine_cli import main

    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
