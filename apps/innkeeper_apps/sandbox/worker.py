"""What one worker of the sandbox does: it takes calls on its standard input and answers on its standard output.

The sandbox's nursery (nursery.py) loads this file by its path and forks the workers: it may import the standard library
alone. Once it has said that it is ready a worker opens no file, no socket and no process any more, whatever the code
that it runs finds a way to do; the kernel ends it if it outlives a call's time.

A call is `!7I`, the lengths of the seven texts that follow (UTF-8; what they are, harness.js says at `run`). An answer
is `!c?II`: how it went, whether this worker has grown so large that it should be replaced, the call's CPU time in µs,
and the length of what follows.
"""

import contextlib
import math
import os
import resource
import signal
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

TEXTS: Final = 7
CALL: Final = struct.Struct(f"!{TEXTS}I")
ANSWER: Final = struct.Struct("!c?II")

READY: Final = b"r"
RESULT: Final = b"="
"""JSON of what the transform returned."""
NOTHING: Final = b"~"
"""It returned nothing; for a check: it can be run."""
FAILED: Final = b"!"
"""JSON that says why."""
OUT_OF_TIME: Final = b"t"
OUT_OF_MEMORY: Final = b"m"
TOO_LARGE: Final = b"s"

_MIB: Final = 1024 * 1024
_WORN_BYTES: Final = 48 * _MIB
"""Memory that was used once is not always given back to the system."""
_STACK_BYTES: Final = 512 * 1024
NICE: Final = 19
"""The server goes before, whenever it has anything to do."""
_KILL_ME_FIRST: Final = "1000"
_GRACE_S: Final = 1
"""By how much the kernel's limit of time is wider than the pool's own."""


def confine(memory_bytes: int, text_bytes: int) -> None:
    """Give up all that is not needed to run code on texts: files, processes, and memory without bound."""
    yield_the_cpu()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_KILL_ME_FIRST)
    # Each text exists as bytes, as text and in the engine's own form for a while.
    space = memory_bytes + 6 * text_bytes + 64 * _MIB
    limits = {"AS": space, "CORE": 0, "FSIZE": 0, "NPROC": 0, "NOFILE": 3}
    for name, limit in limits.items():
        # Not every system has every limit, nor lets it be set.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))


def yield_the_cpu() -> None:
    """Leave one CPU to the server, if there are several, and go last on the others.

    Going last is not enough: on a kernel that only looks at its clock who is next (PREEMPT_NONE, the default of many
    servers), whoever wakes up waits for a tick where each CPU has somebody who calculates.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    with contextlib.suppress(OSError, AttributeError):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cpus[1:] or cpus)


def run(
    engine: Any, harness: str, texts: Sequence[str], cpu_s: float, memory_bytes: int, most: int
) -> tuple[bytes, bytes]:
    """Run one call in a context of its own; how it went, and what is to be said of it."""
    context = engine.Context()
    context.set_memory_limit(memory_bytes)
    context.set_max_stack_size(_STACK_BYTES)
    context.set_time_limit(cpu_s)
    until_s = time.process_time() + cpu_s
    try:
        text = context.eval(harness)(*texts)
    except engine.StackOverflow:
        return OUT_OF_MEMORY, b""
    except engine.JSException as error:
        # What the transform throws does not come here: only what it cannot catch, or what the engine had no room for.
        return (OUT_OF_TIME if str(error).startswith("InternalError: interrupted") else OUT_OF_MEMORY), b""
    except MemoryError:
        return OUT_OF_MEMORY, b""
    if time.process_time() > until_s:
        # Interrupted in a place where the engine takes that for an error of the code, such as a promise's executor.
        return OUT_OF_TIME, b""
    said = text.encode("utf-8", "surrogatepass")
    kind = said[:1]
    if kind in (NOTHING, FAILED):
        return kind, said[1:]
    return (TOO_LARGE, b"") if len(said) > most else (RESULT, said)


class Program:
    """All that workers have in common."""

    def __init__(
        self,
        engine: Any,
        cpu_ms: int,
        wall_ms: int,
        memory_bytes: int,
        text_bytes: int,
        result_bytes: int,
    ) -> None:
        """`engine`: the JavaScript engine's extension module; the limits are those of `SandboxLimits`."""
        self._engine = engine
        self._harness = Path(__file__).with_name("harness.js").read_text("utf-8")
        self._cpu_s = cpu_ms / 1000
        self._wall_s = wall_ms / 1000
        self._memory_bytes = memory_bytes
        self._text_bytes = text_bytes
        self._result_bytes = result_bytes
        self._statm: int | None = None

    def begin(self) -> None:
        """Give up what calls do not need. Must come before `serve`."""
        self._statm = _open_statm()
        confine(self._memory_bytes, self._text_bytes)

    def serve(self) -> None:
        """Answer calls until there are no more."""
        calls, answers = os.fdopen(0, "rb"), os.fdopen(1, "wb")
        _answer(answers, READY, b"")
        while len(head := calls.read(CALL.size)) == CALL.size:
            texts = [calls.read(length).decode() for length in CALL.unpack(head)]
            # The clock of a process goes by ticks where the kernel bounds its time; that of a thread does not.
            began_s = time.thread_time()
            _bound(self._cpu_s, self._wall_s)
            kind, said = run(
                self._engine, self._harness, texts, self._cpu_s, self._memory_bytes, self._result_bytes
            )
            signal.setitimer(signal.ITIMER_REAL, 0)
            _answer(answers, kind, said, _is_worn(self._statm), time.thread_time() - began_s)


def _bound(cpu_s: float, wall_s: float) -> None:
    """Have the kernel end this process if the call takes longer, also if nobody is left to notice."""
    soft = math.ceil(time.process_time() + 2 * cpu_s)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    signal.setitimer(signal.ITIMER_REAL, wall_s + _GRACE_S)


def _open_statm() -> int | None:
    """Where Linux says how much memory this process has now. (The peak that `getrusage` tells is also the parent's.)"""
    try:
        return os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return None


def _is_worn(statm: int | None) -> bool:
    if statm is None:
        return False
    pages = int(os.pread(statm, 200, 0).split()[1])
    return pages * resource.getpagesize() > _WORN_BYTES


def _answer(answers: IO[bytes], kind: bytes, said: bytes, worn: bool = False, used_s: float = 0.0) -> None:
    answers.write(ANSWER.pack(kind, worn, int(used_s * 1_000_000), len(said)) + said)
    answers.flush()
