"""Nothing may be left to Python's collector, which roles let look seldom: bodies would pile up until it does."""

import asyncio
import contextlib
import gc
import types
from collections.abc import Iterator

LARGE_BYTES = 4_096
"""Of a piece of text or bytes: what asyncio's own leavings hold is smaller, bodies in tests are larger."""

_FOREIGN = (BaseException, types.FrameType, types.CoroutineType, asyncio.Task)
"""What a request could leave that is not of this project."""
_TEXTS = (bytes, bytearray, memoryview, str)


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Run a block, warmed up before, and fail where it leaves anything of ours, or large, that holds itself.

    Connections of asyncio hold themselves; what they were for must not hang on them.
    """
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        # As words: what pytest keeps of a failure must not keep the garbage.
        kept = sorted(_named(each) for each in gc.garbage if isinstance(each, _FOREIGN) or _is_ours(each))
        held = sorted({_named(each) for each in gc.garbage if _holds_large(each)})
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not kept, f"left behind: {kept}"
    assert not held, f"large bodies hang on {held}"


def _is_ours(each: object) -> bool:
    return type(each).__module__.startswith("innkeeper_")


def _holds_large(each: object) -> bool:
    # Texts are no garbage by themselves: the collector sees only what can hold other things.
    return any(isinstance(one, _TEXTS) and len(one) >= LARGE_BYTES for one in gc.get_referents(each))


def _named(each: object) -> str:
    if isinstance(each, types.FrameType):
        return f"frame of {each.f_code.co_qualname}"
    if isinstance(each, types.CoroutineType):
        return f"coroutine {each.__qualname__}"
    return f"{type(each).__module__}.{type(each).__qualname__}"
