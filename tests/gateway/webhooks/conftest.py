"""A sandbox with real processes, and short ways to call it."""

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from innkeeper_apps.sandbox.failures import TransformError
from innkeeper_apps.sandbox.fairness import Lane
from innkeeper_apps.sandbox.pool import Call, Sandbox, SandboxLimits

LANE = Lane("production", "acme")

# Wide by the clock: what a test is about must not depend on how busy the machine is.
LIMITS = SandboxLimits(workers=2, cpu_ms=60, wall_ms=20_000, start_ms=60_000, waiting_ms=60_000)


def limits(**changes: int) -> SandboxLimits:
    """`LIMITS` with some of them changed."""
    return msgspec.structs.replace(LIMITS, **changes)


MakeSandbox = Callable[[SandboxLimits], Sandbox]
Failure = Callable[..., Awaitable[TransformError]]


@pytest.fixture
async def make_sandbox() -> AsyncIterator[MakeSandbox]:
    """`make_sandbox(limits)`: a sandbox, closed after the test."""
    made: list[Sandbox] = []

    def make(limits: SandboxLimits) -> Sandbox:
        made.append(Sandbox(limits))
        return made[-1]

    try:
        yield make
    finally:
        for sandbox in made:
            await sandbox.close()


@pytest.fixture
def sandbox(make_sandbox: MakeSandbox) -> Sandbox:
    """A sandbox of two workers."""
    return make_sandbox(LIMITS)


@pytest.fixture
def failure(sandbox: Sandbox) -> Failure:
    """`await failure(source, raw=...)`: how a transform fails."""

    async def fail(source: str, *, raw: str = "{}") -> TransformError:
        with pytest.raises(TransformError) as caught:
            await sandbox.transform(LANE, Call(source=source, raw=raw))
        return caught.value

    return fail
