"""What probes, people and SDKs ask about the server itself."""

import asyncio
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from innkeeper_engine.store import scripts
from innkeeper_engine.store.connection import StoreError, StoreUnavailableError
from innkeeper_engine.store.durability import measure
from innkeeper_gateway.core import Core
from innkeeper_gateway.errors import ApiError, json_response, store_trouble
from innkeeper_gateway.requests import CoreOf
from innkeeper_gateway.views import dev_view

router = APIRouter()


@router.get("/live")
async def live() -> Response:
    """Whether the process answers. Never looks at Redis: starting anew would not bring it back."""
    return json_response({"status": 200, "message": "OK"})


@router.get("/health")
async def health() -> Response:
    """What SDKs and older probes ask."""
    return json_response({"status": 200, "message": "OK"})


@router.get("/ready")
async def ready(core: CoreOf) -> Response:
    """Whether requests should come here: Redis answers, the scripts are there, the registry is read, no drain.

    A managed gateway has read who may come in, too.

    `{"status": 200|503, "checks": {name: "ok" | what is wrong}, "durability": "fsync"|"memory"|"unknown"}`.
    """
    checks = {"draining": "the server is about to stop" if core.draining else "ok"}
    durability: str = "unknown"
    try:
        async with asyncio.timeout(min(core.settings.store_timeout_s, 2.0)):
            checks["redis"] = await _redis(core)
            checks["scripts"] = await _scripts(core)
            checks["registry"] = await _registry(core)
            if core.settings.managed:
                checks["environments"] = await _environments(core)
            durability = (await measure(core.store)).mode
    except (StoreError, StoreUnavailableError, TimeoutError) as error:
        why = store_trouble(error) or f"Redis refused: {str(error).partition(' ')[0]}"
        checks["redis"] = f"{why} ({core.store.address}; {core.store.last_error or 'no answer in time'})"
    status = 200 if all(state == "ok" for state in checks.values()) else 503
    return json_response({"status": status, "checks": checks, "durability": durability}, status)


@router.get("/dev")
async def dev_info(core: CoreOf) -> Response:
    """What is registered, in dev mode. SDKs ask this to find out whether a dev server is there."""
    if not core.settings.dev:
        raise ApiError(404, "only a server in dev mode answers this")
    return json_response(dev_view(await core.registry(core.settings.env), core.settings.version))


async def _redis(core: Core) -> str:
    await core.store.command("PING")
    return "ok"


async def _scripts(core: Core) -> str:
    known: list[Any] = await core.store.command(
        "SCRIPT", "EXISTS", *(scripts.load(name).sha for name in scripts.VERBS)
    )
    missing = [name for name, there in zip(scripts.VERBS, known, strict=True) if not there]
    return f"not loaded: {', '.join(missing)}" if missing else "ok"


async def _environments(core: Core) -> str:
    await core.environments.refresh()
    return "ok"


async def _registry(core: Core) -> str:
    await core.registries.current(core.settings.env)
    return "ok"
