"""How a transform can fail, in words. Pure."""

import re
from typing import Final, Literal

import msgspec

from innkeeper_apps.sandbox import worker as program

Code = Literal[
    "syntax",
    "missing",
    "async",
    "threw",
    "result",
    "body",
    "timeout",
    "memory",
    "crashed",
    "suspended",
    "source_size",
    "input_size",
    "result_size",
    "event",
]
"""What kind of failure it is, for programs and metrics."""

_POSITION: Final = re.compile(r"<input>:(\d{1,7}):(\d{1,7})")
_MODULE: Final = "a transform is a script, not a module: write `function transform(…) {…}` alone"


class TransformError(Exception):
    """A transform that could not be run, or did not return an event."""

    def __init__(self, code: Code, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message
        """What happened. Of `threw`, `result` and `event` it may quote what came in: not for logs."""
        self.line = line
        """Where in the source, from 1; 0 where that is not known."""
        self.column = column


class SandboxBusyError(Exception):
    """A call that was not run: too many wait, no worker starts, or the server stops. It may be tried again."""


class _Said(msgspec.Struct):
    """What harness.js says of a failure."""

    code: Literal["syntax", "missing", "async", "threw", "result", "body", "memory", "function"]
    name: str
    message: str
    stack: str


def timed_out(wall_ms: int) -> TransformError:
    """A call that took too long by the clock."""
    return TransformError("timeout", f"the transform did not end within {wall_ms} ms")


def used_up(cpu_ms: int) -> TransformError:
    """A call that calculated for too long."""
    return TransformError("timeout", f"the transform used more than {cpu_ms} ms of CPU time")


def died(signal_name: str, *, cpu_ms: int, wall_ms: int) -> TransformError:
    """The worker's process ended during the call; `signal_name` is empty where it ended by itself.

    The kernel ends it by SIGXCPU or SIGALRM where neither the engine nor the pool did in time.
    """
    if signal_name == "SIGXCPU":
        return used_up(cpu_ms)
    if signal_name == "SIGALRM":
        return timed_out(wall_ms)
    why = f" ({signal_name})" if signal_name else ""
    return TransformError(
        "crashed", f"the process that ran the transform ended{why}; it may have needed too much"
    )


def failure_of(
    kind: bytes, said: bytes, source: str, *, cpu_ms: int, memory_bytes: int, result_bytes: int
) -> TransformError:
    """The failure that a worker's answer tells of; `kind` and `said` are what it answered."""
    if kind == program.OUT_OF_TIME:
        return used_up(cpu_ms)
    if kind == program.OUT_OF_MEMORY:
        return _out_of_memory(memory_bytes)
    if kind == program.TOO_LARGE:
        return TransformError(
            "result_size", f"the transform returned more than {result_bytes} bytes of JSON: return less"
        )
    try:
        parsed = msgspec.json.decode(said, type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return TransformError("crashed", "the transform failed in a way that cannot be told")
    return _told(parsed, source, memory_bytes)


def _told(said: _Said, source: str, memory_bytes: int) -> TransformError:
    line, column = _position(said.stack, source)
    shown = ": ".join(filter(None, (said.name, said.message)))
    match said.code:
        case "syntax":
            begins = source.split("\n")[line - 1].lstrip()[:6] if line else ""
            hint = f" ({_MODULE})" if begins in ("import", "export") else ""
            at = f" at line {line}, column {column}" if line else ""
            return TransformError("syntax", f"{shown}{at}{hint}", line, column)
        case "missing":
            return TransformError(
                "missing",
                "the source defines no function called transform: "
                "write `function transform(evt, headers, queryParams, raw) { return {name, data} }`",
            )
        case "async":
            return TransformError(
                "async",
                "transform is asynchronous or returned a promise: make it a plain function; "
                "there is nothing that it could wait for",
            )
        case "function":
            return TransformError(
                "result", "transform returned something that is no JSON, such as a function"
            )
        case "memory":
            return _out_of_memory(memory_bytes)
        case "body":
            # The position is one in the body, and the name is that of a JavaScript class.
            return TransformError("body", f"the request's body is not JSON: {said.message}")
        case "threw":
            at = f" (line {line}, column {column})" if line else ""
            return TransformError("threw", f"the transform threw {shown}{at}", line, column)
        case "result":
            return TransformError("result", f"what transform returned cannot be written as JSON: {shown}")


def suspended(wait_s: float) -> TransformError:
    """The transform was not run."""
    return TransformError(
        "suspended",
        f"the transform took too long, or too much memory, many times in a row: it is not run for {wait_s:.0f} s",
    )


def _out_of_memory(memory_bytes: int) -> TransformError:
    return TransformError("memory", f"the transform needed more than {memory_bytes // (1024 * 1024)} MiB")


def _position(stack: str, source: str) -> tuple[int, int]:
    """The innermost place of a stack; where a source ends too early, its end."""
    found = _POSITION.search(stack)
    if found is None:
        return 0, 0
    line, column = int(found[1]), int(found[2])
    lines = source.split("\n")
    if line > len(lines):
        return len(lines), len(lines[-1]) + 1
    return line, column
