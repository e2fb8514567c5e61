"""The program of one worker of the sandbox: takes calls on its standard input, answers on its standard output.

Run by path as `python -I -S -B worker.py <path of the engine's library> <limits>`, with an empty environment: it may
import the standard library alone. Once it has said that it is ready it opens no file, no socket and no process any
more, whatever the code that it runs finds a way to do; the kernel ends it if it outlives a call's time.

A call is `!7I`, the lengths of the seven texts that follow (UTF-8; what they are, harness.js says at `run`). An answer
is `!c?I`: how it went, whether this worker has grown so large that it should be replaced, and the length of what
follows.
"""

import contextlib
import importlib.util
import math
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

TEXTS: Final = 7
CALL: Final = struct.Struct(f"!{TEXTS}I")
ANSWER: Final = struct.Struct("!c?I")

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


def load_engine(path: str) -> Any:
    """The JavaScript engine's extension module, loaded from its file: nothing else of its site-packages is reachable."""
    spec = importlib.util.spec_from_file_location("_quickjs", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no extension module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def confine(memory_bytes: int, text_bytes: int) -> None:
    """Give up all that is not needed to run code on texts: files, processes, and memory without bound."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_KILL_ME_FIRST)
    # Each text exists as bytes, as text and in the engine's own form for a while.
    space = memory_bytes + 6 * text_bytes + 64 * _MIB
    limits = {"AS": space, "CORE": 0, "FSIZE": 0, "NPROC": 0, "NOFILE": 3}
    for name, limit in limits.items():
        # Not every system has every limit, nor lets it be set.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))


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


def main(arguments: Sequence[str], calls: IO[bytes], answers: IO[bytes]) -> None:
    """Answer calls until there are no more."""
    engine = load_engine(arguments[0])
    cpu_ms, wall_ms, memory_bytes, text_bytes, result_bytes = (int(text) for text in arguments[1:])
    harness = Path(__file__).with_name("harness.js").read_text("utf-8")
    statm = _open_statm()
    confine(memory_bytes, text_bytes)
    cpu_s = cpu_ms / 1000
    _answer(answers, READY, b"")
    while len(head := calls.read(CALL.size)) == CALL.size:
        texts = [calls.read(length).decode() for length in CALL.unpack(head)]
        _bound(cpu_s, wall_ms / 1000)
        kind, said = run(engine, harness, texts, cpu_s, memory_bytes, result_bytes)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _answer(answers, kind, said, _is_worn(statm))


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


def _answer(answers: IO[bytes], kind: bytes, said: bytes, worn: bool = False) -> None:
    answers.write(ANSWER.pack(kind, worn, len(said)) + said)
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer)
