"""`GET /v1/prom/{environment}`: an environment's metrics for its own people, as Inngest's Prometheus export has them."""

from fastapi import APIRouter
from starlette.responses import Response

from innkeeper_engine.exposition import environment_text, shown
from innkeeper_engine.metrics import CONTENT_TYPE
from innkeeper_engine.model.environments import branch_name
from innkeeper_engine.store.numbers import read_environment_numbers
from innkeeper_gateway.access.permissions import SEE_FUNCTIONS
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.places import Place
from innkeeper_gateway.requests import KNOWN_CALLER, CallerOf, CoreOf, needs

router = APIRouter(prefix="/v1", dependencies=KNOWN_CALLER)


@router.get("/prom/{environment:path}", dependencies=[needs(SEE_FUNCTIONS)])
async def get_metrics(environment: str, core: CoreOf, caller: CallerOf) -> Response:
    """The nine metrics of an environment that the caller's credentials open, in the text format of Prometheus.

    A branch is `<environment>/<branch>`. Counters are those of today and yesterday (UTC): `date` says which.
    """
    env = _named(caller.place, environment)
    async with core.in_time():
        numbers = await read_environment_numbers(core.store, env, core.clock.now_ms())
    return Response(environment_text(numbers), media_type=CONTENT_TYPE)


def _named(place: Place, name: str) -> str:
    """The environment of this name, if it may be reached from here.

    Raises:
        ApiError: 404, it may not, or is not there: who asks learns nothing about others.
    """
    if name in (place.env, shown(place.env)):
        return place.env
    parent, slash, branch = name.partition("/")
    if slash and branch and place.covers(env := branch_name(parent, branch)):
        return env
    raise ApiError(
        404,
        f"these credentials open no environment {name[:100]!r}: theirs is {shown(place.env)!r}, and a branch of it is "
        "<environment>/<branch>",
    )
