"""Runs a server that must not outlive the process that started it. A program of its own, standard library only.

    python -I -S tether.py <server> <argument>...     with a pipe as standard input

The pipe's other end belongs to the one who wants the server. A watcher (a child of the server) reads it: one byte
means the server was ended in good order, the end of the pipe means its owner is gone, however it died, and then the
watcher ends the server. Unlike Linux's PR_SET_PDEATHSIG this works on macOS, does not depend on which thread
started the server, and leaves no moment in which the server is unwatched.
"""

import os
import signal
import sys
import time

TERM_S = 5.0
"""How long the server may take to write its last bytes before it is killed."""


def main() -> None:
    """Fork the watcher, then become the server."""
    server = os.getpid()
    if os.fork() == 0:
        watch(server)
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - the caller's own program, and no shell


def watch(server: int) -> None:
    """Wait for the pipe's word and end the server if its owner has died."""
    os.setsid()
    # The lock on the data directory and the log are the server's: held here they would outlive it.
    os.closerange(1, 1024)
    if os.read(0, 1):
        return
    # As long as the server is this process's parent, the number is still its own.
    deadline = time.monotonic() + TERM_S
    if os.getppid() == server:
        os.kill(server, signal.SIGTERM)
    while os.getppid() == server and time.monotonic() < deadline:
        time.sleep(0.02)
    if os.getppid() == server:
        os.kill(server, signal.SIGKILL)


if __name__ == "__main__":
    main()
