"""Whether a Webhook's transform can be used; apart from who asks, because `innkeeper dev` asks without a cluster."""

from typing import Final

from innkeeper_apps.sandbox.failures import SandboxBusyError, TransformError
from innkeeper_apps.sandbox.pool import Sandbox
from innkeeper_operator.webhooks import Verdict

_OF_THE_MACHINE: Final = ("timeout", "crashed")
"""Failures that may come of a machine which is busy, or short of memory."""


async def judge_transform(sandbox: Sandbox, source: str) -> Verdict:
    """What the sandbox says of a transform."""
    try:
        await sandbox.check_transform(source)
    except TransformError as error:
        place = f"line {error.line}, column {error.column}: " if error.line else ""
        return Verdict(f"{place}{error.message}", lasting=error.code not in _OF_THE_MACHINE)
    except SandboxBusyError as error:
        return Verdict(str(error), tried=False, lasting=False)
    return Verdict()
