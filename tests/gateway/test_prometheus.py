"""What Prometheus gets from a gateway, and who may ask for it."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from innkeeper_engine.exporting import READ_AGAIN_S, Exporter
from innkeeper_engine.metrics import Metrics
from innkeeper_engine.model.clock import SystemClock
from innkeeper_engine.model.effects import Start
from innkeeper_engine.model.guards import NoGuard
from innkeeper_engine.probes import Probes
from innkeeper_engine.store.store import Store
from innkeeper_gateway.settings import GatewaySettings
from tests.gateway.conftest import FALLBACK_KEY, SIGNING_KEY, MakeWorld
from tests.gateway.tenants import Tenant
from tests.gateway.world import World

NAMES = {
    "inngest_function_run_ended",
    "inngest_function_run_scheduled",
    "inngest_function_run_started",
    "inngest_sdk_req_ended",
    "inngest_sdk_req_scheduled",
    "inngest_sdk_req_started",
    "inngest_step_output_bytes",
    "inngest_steps_running",
    "inngest_steps_scheduled",
}


async def one_run(store: Store, env: str = "default", run: str = "run") -> None:
    fn = f"{env}/app-fn"
    event = ("E" * 26, b'{"data":{},"name":"x"}')
    start = Start(run, env, fn, b'"app-fn"', "app", (event,), f"{fn}\x01s", f"{fn}\x01t", 1, 0)
    await store.apply(NoGuard(), [start])


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("key", [SIGNING_KEY, FALLBACK_KEY])
async def test_an_environments_metrics_are_for_whoever_has_its_key(
    production: World, store: Store, key: str
) -> None:
    await one_run(store)
    reply = await production.http.get("/v1/prom/default", headers=bearer(key))

    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(reply.text)}
    assert families.keys() == NAMES
    (scheduled,) = families["inngest_function_run_scheduled"].samples
    assert scheduled.labels.keys() == {"date", "fn"}
    assert (scheduled.labels["fn"], scheduled.value) == ("app-fn", 1)
    (waiting,) = families["inngest_steps_scheduled"].samples
    assert (waiting.labels, waiting.value) == ({"fn": "app-fn"}, 1)


@pytest.mark.parametrize("headers", [{}, bearer("signkey-prod-00"), bearer("nonsense")])
async def test_nobody_else_gets_them(production: World, headers: dict[str, str]) -> None:
    reply = await production.http.get("/v1/prom/default", headers=headers)

    assert reply.status_code == 401


async def test_another_environment_is_not_there_for_a_key(make_world: MakeWorld) -> None:
    world = await make_world(GatewaySettings(managed=True))
    live, trial = Tenant(world, "live"), Tenant(world, "trial")
    await live.put(branches=("feature/x",))
    await trial.put()
    await one_run(world.store, "live")
    await one_run(world.store, "live~feature%2Fx", "branch-run")

    assert 'fn="app-fn"' in (await live.http.get("/v1/prom/live")).text
    assert 'fn="app-fn"' in (await live.http.get("/v1/prom/live/feature/x")).text
    assert "fn=" not in (await trial.http.get("/v1/prom/trial")).text
    for path in ("/v1/prom/live", "/v1/prom/live/feature/x", "/v1/prom/nowhere"):
        refused = await trial.http.get(path)
        assert refused.status_code == 404
        assert "these credentials open no environment" in refused.json()["error"]
    chosen = {"x-inngest-env": "feature/x"}
    assert (await live.http.get("/v1/prom/live/feature/x", headers=chosen)).status_code == 200
    assert (await live.http.get("/v1/prom/live", headers=chosen)).status_code == 404


async def test_requests_are_counted_by_templates_of_routes(production: World, store: Store) -> None:
    client = production.http
    await client.post("/e/first-key", json={"name": "a"})
    await client.post("/e/first-key", json=[{"name": "a"}, {"name": "b"}])
    await client.post("/e/wrong", json={"name": "a"})
    await client.post("/e/first-key", json={"name": ""})
    await client.post("/w/unknown", json={})
    await client.get("/v1/runs/01HZZZZZZZZZZZZZZZZZZZZZZZ", headers=bearer(SIGNING_KEY))
    for n in range(5):
        await client.request("BREW", f"/teapot/{n}")

    requests = store.metrics.http_requests
    assert requests.value("/e/{key}", "POST", "200") == 2
    assert requests.value("/e/{key}", "POST", "401") == 1
    assert requests.value("/w/{token}", "POST", "404") == 1
    assert requests.value("/v1/runs/{run_id}", "GET", "404") == 1
    assert requests.value("_other", "_other", "404") == 5
    assert store.metrics.events_accepted.value("default") == 3
    assert store.metrics.events_refused.value("key") == 1
    assert store.metrics.events_refused.value("event") == 1
    assert store.metrics.webhook_requests.value("unknown") == 1
    assert store.metrics.redis_seconds.count("append") == 2


async def test_branches_that_nobody_declares_are_no_labels(make_world: MakeWorld) -> None:
    world = await make_world(GatewaySettings(managed=True))
    live = Tenant(world, "live")
    await live.put(branches=("known",))
    for branch in ("known", "made-up-1", "made-up-2"):
        headers = {"x-inngest-env": branch}
        await live.http.post("/e/event-key-of-live", json={"name": "a"}, headers=headers)

    accepted = world.store.metrics.events_accepted
    assert accepted.value("live/known") == 1
    assert accepted.value("live/_other") == 2


async def test_all_metrics_of_a_role_come_over_http_and_redis_is_asked_once_in_a_while(
    store: Store,
) -> None:
    await one_run(store, "live")
    now_s = 100.0
    exporter = Exporter(store, SystemClock(), store.metrics, lambda: now_s)
    probes = Probes(dict, exporter.text, host="127.0.0.1", port=0)
    await probes.start()
    try:
        url = f"http://127.0.0.1:{probes.port}/metrics"
        async with httpx.AsyncClient(trust_env=False) as client:
            families = {f.name: f for f in text_string_to_metric_families((await client.get(url)).text)}
            asked = store.metrics.redis_seconds.count("gauges")
            await one_run(store, "live", "another")
            before = (await client.get(url)).text
            assert store.metrics.redis_seconds.count("gauges") == asked
            now_s += READ_AGAIN_S
            after = (await client.get(url)).text
    finally:
        await probes.stop()

    queued = 'innkeeper_runs_queued{env="live",fn="app-fn"} '
    assert families.keys() >= NAMES
    assert {"innkeeper_runs_stuck", "innkeeper_http_requests", "innkeeper_redis_up"} <= families.keys()
    assert f"{queued}1\n" in before
    assert f"{queued}2\n" in after


async def test_without_redis_a_process_still_shows_what_it_counts(store: Store) -> None:
    metrics = Metrics()
    metrics.spans_dropped.add()
    exporter = Exporter(store, SystemClock(), metrics)
    await store.close()

    text = (await exporter.text()).decode()
    assert "innkeeper_spans_dropped_total 1.0" in text
    assert "innkeeper_redis_up 0\n" in text
    assert "innkeeper_runs_queued" not in text
