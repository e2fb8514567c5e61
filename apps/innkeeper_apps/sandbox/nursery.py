"""The program that the sandbox's workers come from: it has all that they need loaded, and forks one when it is told to.

Starting a process anew costs the server's event loop 5 to 10 ms, and some 20 ms of CPU time until it takes calls. A
transform that is ended again and again would have everybody wait for that; telling this program costs neither.

Run by path as `python -I -S -B nursery.py <path of the engine's library> <limits>`, with an empty environment. Its
standard input is a stream socket, on which each order is `!cI`: what to do, and the number of a worker. `START` brings
the socket along on which that worker will take its calls; `KILL` ends it. Each report is `!cIi`: `BORN` with the
process's id, `ENDED` with its exit code, negative where a signal ended it, or `REFUSED` with the system's error number,
where there is no process. `READY` comes before all. When the socket is closed all workers are ended.
"""

import errno
import importlib.util
import os
import resource
import select
import signal
import socket
import struct
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from innkeeper_apps.sandbox import worker

ORDER: Final = struct.Struct("!cI")
REPORT: Final = struct.Struct("!cIi")

START: Final = b"s"
KILL: Final = b"k"
READY: Final = b"r"
BORN: Final = b"b"
ENDED: Final = b"e"
REFUSED: Final = b"x"

OPEN_FILES: Final = 64
"""More than it ever needs; its workers may have three."""


class Nursery:
    """The workers that live, and the socket on which they are asked for."""

    def __init__(self, control: socket.socket, program: "worker.Program") -> None:
        self._control = control
        self._program = program
        self._pids: dict[int, int] = {}
        """Of each worker's number, its process."""

    def serve(self, deaths: int) -> None:
        """Do as told until nobody is left to tell. `deaths`: becomes readable whenever a worker has ended."""
        self._report(READY, 0, 0)
        control = self._control.fileno()
        while True:
            readable, _, _ = select.select([control, deaths], [], [])
            if deaths in readable:
                os.read(deaths, 4_096)
                self._bury()
            if control in readable:
                order, sockets, _, _ = socket.recv_fds(self._control, ORDER.size, 1, socket.MSG_WAITALL)
                if len(order) < ORDER.size:
                    return
                kind, number = ORDER.unpack(order)
                if kind == START and sockets:
                    self._bear(number, sockets[0])
                elif kind == START:
                    # It was lost on the way: there was no room for it.
                    self._report(REFUSED, number, errno.EMFILE)
                elif number in self._pids:
                    # Not yet waited for, so the number is still that of this process.
                    os.kill(self._pids[number], signal.SIGKILL)

    def end_all(self) -> None:
        """End every worker, and wait until it is gone."""
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids.values():
            os.waitpid(pid, 0)

    def _bear(self, number: int, calls: int) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            os.close(calls)
            self._report(REFUSED, number, error.errno or 0)
            return
        if pid == 0:
            self._live(calls)
        os.close(calls)
        self._pids[number] = pid
        self._report(BORN, number, pid)

    def _live(self, calls: int) -> None:
        """The rest of a worker's life; does not return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(calls, 0)
            os.dup2(calls, 1)
            os.closerange(3, OPEN_FILES)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            self._program.begin()
            # Only now: whoever is not yet confined may say what is wrong.
            os.dup2(nowhere, 2)
            os.close(nowhere)
            self._program.serve()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            # Nothing of what the nursery would do at its own end.
            os._exit(code)

    def _bury(self) -> None:
        for number, pid in list(self._pids.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self._pids[number]
                self._report(ENDED, number, os.waitstatus_to_exitcode(status))

    def _report(self, kind: bytes, number: int, value: int) -> None:
        self._control.sendall(REPORT.pack(kind, number, value))


def load(name: str, path: str) -> Any:
    """A module from its file: nothing else that lies beside it can be imported.

    Raises:
        ImportError: it is no module.
    """
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(arguments: list[str]) -> None:
    """Load everything, then serve."""
    path, *numbers = arguments
    program = load("worker", str(Path(__file__).with_name("worker.py"))).Program(
        load("_quickjs", path), *map(int, numbers)
    )
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    deaths, dead = os.pipe()
    os.set_blocking(dead, False)
    signal.set_wakeup_fd(dead, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    nursery = Nursery(socket.socket(fileno=0), program)
    try:
        nursery.serve(deaths)
    except (BrokenPipeError, ConnectionResetError):
        # The server has gone without a word.
        pass
    finally:
        nursery.end_all()


if __name__ == "__main__":
    main(sys.argv[1:])
