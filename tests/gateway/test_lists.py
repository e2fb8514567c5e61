"""Lists over HTTP: filters, cursors, who may see what; traces, names of events, functions, apps, the backlog."""

import base64
from typing import Any
from urllib.parse import quote

import pytest

from innkeeper_engine.decide.notes import step_note
from innkeeper_engine.model.calls import Op, OpKind
from innkeeper_engine.model.clock import ulid_ms
from innkeeper_engine.model.effects import Emit, Save, Wait
from innkeeper_engine.model.guards import LeaseGuard
from innkeeper_engine.model.times import rfc3339
from innkeeper_gateway.errors import ApiError
from innkeeper_gateway.lists.filters import EVENT, EVENT_AND_OUTPUT, read_filter
from innkeeper_gateway.lists.paging import digest_of, read_cursor, write_cursor
from tests.gateway.world import World, function


async def get(world: World, path: str, code: int = 200, /, **query: Any) -> Any:
    reply = await world.http.get(path, params=query or None)
    assert reply.status_code == code, reply.text
    return reply.json()


async def pages(world: World, path: str, key: str, **query: Any) -> list[list[Any]]:
    """What each page of a list has under `key`."""
    found, cursor = [], ""
    for _ in range(50):
        reply = await get(world, path, **query, **({"cursor": cursor} if cursor else {}))
        found.append([each[key] for each in reply["data"]])
        page = reply["page"]
        assert page["has_more"] is (page["cursor"] is not None)
        assert len(reply["data"]) <= page["limit"]
        if not page["has_more"]:
            return found
        cursor = page["cursor"]
    raise AssertionError("a list without an end")


async def ids(world: World, path: str, key: str, **query: Any) -> list[Any]:
    return [each for page in await pages(world, path, key, **query) for each in page]


# ---- events


async def test_events_are_listed_by_name_time_and_expression(world: World) -> None:
    sent = [await world.send(f"test/{n % 2}", data={"n": n, "text": "x" * n}) for n in range(7)]
    newest_first = sent[::-1]
    assert await pages(world, "/v1/events", "internal_id", limit=3) == [
        newest_first[:3],
        newest_first[3:6],
        newest_first[6:],
    ]
    assert await pages(world, "/v1/events", "internal_id", limit=7) == [newest_first]
    odd = newest_first[1::2]
    assert await pages(world, "/v1/events", "internal_id", limit=2, name="test/1") == [odd[:2], odd[2:]]
    # As many as fill their pages: the last one is told of once.
    for limit in (1, 3):
        full = [odd[n : n + limit] for n in range(0, 3, limit)]
        assert await pages(world, "/v1/events", "internal_id", limit=limit, name="test/1") == full
    one = (await get(world, f"/v1/events/{sent[3]}"))["data"]
    (listed,) = [e for e in (await get(world, "/v1/events"))["data"] if e["internal_id"] == sent[3]]
    assert listed == one
    after = await ids(world, "/v1/events", "internal_id", received_after=one["received_at"])
    before = await ids(world, "/v1/events", "internal_id", received_before=one["received_at"])
    assert sent[3] in after
    assert sorted(after + before) == sorted(sent)
    cel = "event.name == 'test/0'\nevent.data.n > 1"
    assert await ids(world, "/v1/events", "internal_id", cel=cel) == [sent[6], sent[4], sent[2]]
    assert await ids(world, "/v1/events", "internal_id", cel=cel, limit=1) == [sent[6], sent[4], sent[2]]
    assert await ids(world, "/v1/events", "internal_id", cel="event.data.nothing == 1") == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("limit=201", "query.limit"),
        ("limit=x", "query.limit"),
        ("limit=1_0", "query.limit: write a whole number, in digits only"),
        ("limit=%2B1", "query.limit"),
        ("limit=1.0", "query.limit"),
        ("limit=1&limit=2", "query.limit: is given more than once"),
        ("unknown_branch=yes", "query.unknown_branch: write true or false"),
        ("nmae=a", "query.nmae: there is no such parameter; there are name, received_after"),
        ("received_before=1795407869000", "as ms since 1970 it would be 2026-11-23T"),
        ("received_after=2026-11-23T05:00:00+01:00", "a + of a query is written %2B"),
        (
            "received_after=2026-11-23T05:00:00Z&received_before=2026-11-23T05:00:00Z",
            "nothing lies in between",
        ),
        ("received_after=yesterday", "query.received_after: 'yesterday' is no date"),
        ("received_before=1960-01-01T00:00:00Z", "is before 1970"),
        ("cel=event.data.", "query.cel: no valid expression"),
        ("cel=output.x%20%3D%3D%201", "query.cel"),
        ("cel=event.data.a%20%2B%201", "gives neither true nor false"),
        ("cursor=!!", "query.cursor: it is no cursor"),
        ("cursor=YWJjZA", "query.cursor: it is of another list"),
        ("name=" + "x" * 600, "query.name"),
    ],
)
async def test_what_is_wrong_with_a_query_is_said(world: World, query: str, said: str) -> None:
    reply = await get(world, f"/v1/events?{query}", 400)
    assert said in reply["error"]
    assert reply["status"] == 400


async def test_a_branch_may_stand_in_the_query_and_a_status_several_times(world: World) -> None:
    await get(world, "/v1/events?x-inngest-env=default&limit=5")
    await get(world, "/v1/runs?status=Failed&status=Running")
    assert "query.apid" in (await get(world, "/v1/backlog?apid=a", 400))["error"]
    await get(world, "/v1/event-types?_=123")


async def test_a_cursor_is_for_the_list_that_it_came_with(world: World) -> None:
    for _ in range(3):
        await world.send("a")
    cursor = (await get(world, "/v1/events", limit=1))["page"]["cursor"]
    assert (await get(world, "/v1/events", limit=2, cursor=cursor))["page"]["has_more"] is False
    assert "another list" in (await get(world, "/v1/events", 400, name="a", cursor=cursor))["error"]
    assert "another list" in (await get(world, "/v1/runs", 400, cursor=cursor))["error"]
    forged = write_cursor("s1", f"e{digest_of('', '', '', '')}")
    assert "no cursor" in (await get(world, "/v1/events", 400, cursor=forged))["error"]


async def test_names_of_events_come_with_a_sample(world: World) -> None:
    await world.send("b", data={"first": 1})
    last = await world.send("b", data={"last": 1})
    await world.send("a", data={"text": "x" * 10_000})
    one, two = (await get(world, "/v1/event-types"))["data"]
    assert (one["name"], one["count_today"], one["sample"]["data"]) == ("a", 1, None)
    assert (two["name"], two["count_today"], two["sample"]["data"]) == ("b", 2, {"last": 1})
    assert two["sample"]["internal_id"] == last
    assert two["last_received_at"] == two["sample"]["received_at"]


async def test_events_for_branches_that_no_app_declares_are_listed_as_such(world: World) -> None:
    sent = []
    for n in range(9):
        env = ("default~two", "default~feature%2Fone", "default")[n % 3]
        event_id = f"01HZZZZZZZZZZZZZZZZZZZZZZ{n}"
        await world.store.append(env, [(event_id, "a", b'{"data":{},"id":"%d","name":"a","ts":1}' % n)])
        sent.append(event_id)
    stray = [each for n, each in enumerate(sent) if n % 3 != 2][::-1]
    for limit in (1, 2, 4, 50):
        found = await ids(world, "/v1/events", "internal_id", limit=limit, unknown_branch=True)
        # What came in one millisecond for several branches is in any order.
        assert sorted(found) == sorted(stray)
        assert [each for each in found if each in sent[::3]] == sent[6::-3]
    assert set(await ids(world, "/v1/events", "branch", unknown_branch=True)) == {"two", "feature/one"}
    assert await ids(world, "/v1/events", "internal_id") == sent[8::-3]


# ---- runs


async def a_history(world: World) -> dict[str, str]:
    """Runs by what became of them."""
    await world.register(function("app-fn"), function("app-other", triggers=[{"event": "test/other"}]))
    found = {"done": await world.start(data={"n": 1})}
    await world.finish(await world.lease(), b'{"ok":true}')
    found["cancelled"] = await world.start(data={"n": 2})
    assert (await world.http.delete(f"/v1/runs/{found['cancelled']}")).status_code == 200
    found["running"] = await world.start(data={"n": 3})
    await world.lease()
    await world.send("test/other", data={"n": 4})
    (found["other"],) = await world.route()
    found["waiting"] = await world.start(data={"n": 5})
    return found


async def test_runs_are_listed_by_function_status_app_time_and_expression(world: World) -> None:
    runs = await a_history(world)
    everything = [runs[name] for name in ("waiting", "other", "running", "cancelled", "done")]
    mine = [run for run in everything if run != runs["other"]]

    async def listed(**query: Any) -> list[str]:
        return await ids(world, "/v1/runs", "run_id", limit=2, **query)

    assert await listed() == everything
    assert await listed(app_id="app") == everything
    for query in ({"app_id": "another"}, {"function_id": "app-nf"}, {"app_id": "app", "function_id": "nf"}):
        assert "is registered" in (await get(world, "/v1/runs", 404, **query))["error"]
    shown = (await get(world, f"/v1/runs/{runs['done']}"))["data"]
    for function_id in ("app-fn", shown["function_id"]):
        assert await listed(function_id=function_id) == mine
    assert await listed(app_id="app", function_id="fn") == mine
    assert await listed(status="Scheduled") == [runs["waiting"], runs["other"]]
    assert await listed(status="Scheduled", function_id="app-fn") == [runs["waiting"]]
    assert await listed(status=["Completed", "Cancelled"]) == [runs["cancelled"], runs["done"]]
    assert await listed(status="Skipped") == []
    assert await listed(cel="event.data.n > 1\nevent.data.n < 4") == [runs["running"], runs["cancelled"]]
    assert await listed(cel="output.ok") == [runs["done"]]
    assert await listed(cel="output.name == 'Error'", app_id="app") == [runs["cancelled"]]
    since, until = shown["queued_at"], (await get(world, f"/v1/runs/{runs['other']}"))["data"]["queued_at"]
    assert runs["done"] in await listed(**{"from": since})
    assert set(await listed(until=until)) <= set(everything[2:])
    assert await listed(until=since) == []
    (listed_one,) = [r for r in (await get(world, "/v1/runs"))["data"] if r["run_id"] == runs["done"]]
    assert listed_one == {name: shown[name] for name in listed_one}
    assert "output" not in listed_one


async def test_a_status_that_there_is_not_is_refused(world: World) -> None:
    assert "query.status" in (await get(world, "/v1/runs?status=completed", 400))["error"]


async def test_runs_of_a_function_that_is_gone_are_still_listed(world: World) -> None:
    runs = await a_history(world)
    await world.register(function("app-fn"))
    assert await ids(world, "/v1/runs", "run_id", function_id="app-other") == [runs["other"]]
    assert runs["other"] in await ids(world, "/v1/runs", "run_id", status="Scheduled", app_id="app")


async def test_a_trace_has_steps_attempts_and_invoked_runs(world: World) -> None:
    await world.register(function("app-fn"), function("app-child", triggers=[{"event": "inngest/x"}]))
    run_id = await world.start()
    lease = await world.lease()
    flaky = Op(kind=OpKind.STEP, id="a" * 40, name="flaky", display_name="flaky")
    invoke = Op(kind=OpKind.INVOKE_FUNCTION, id="b" * 40, name="call", display_name="call")
    child_event = world.ids.ulid(5)
    at = ulid_ms(lease.token)
    emit = Emit("default", child_event, "inngest/x", b'{"data":{},"id":"1","name":"inngest/x","ts":1}')
    effects = [
        step_note(lease, flaky, "Retrying", at, {"name": "E", "message": "first"}),
        step_note(lease, flaky, "Completed", at + 20),
        Save(run_id, flaky.id, b'{"data":7}', True),
        step_note(lease, invoke, "Waiting", at + 30, event=child_event),
        emit,
    ]
    guard = LeaseGuard(lease.item, lease.token, lease.seen)
    assert (await world.store.apply(guard, effects)).status == "ok"
    (child_run,) = await world.route()
    await world.record()
    root = (await get(world, f"/v1/runs/{run_id}/trace"))["data"]
    assert (root["kind"], root["run_id"], root["status"]) == ("run", run_id, "Running")
    assert (root["ended_at"], root["duration_ms"]) == (None, None)
    one, two = root["children"]
    assert (one["kind"], one["name"], one["status"], one["output"]) == (
        "step",
        "flaky",
        "Completed",
        {"data": 7},
    )
    assert one["duration_ms"] == 20
    (attempt,) = one["children"]
    assert (attempt["kind"], attempt["attempt"], attempt["status"]) == ("attempt", 0, "Failed")
    assert attempt["error"] == {"name": "E", "message": "first"}
    assert attempt["started_at"] <= attempt["ended_at"]
    assert (await world.http.post(f"/v1/runs/{child_run}/rerun")).status_code == 200
    root = (await get(world, f"/v1/runs/{run_id}/trace"))["data"]
    two = root["children"][1]
    assert (two["op"], two["status"]) == ("InvokeFunction", "Waiting")
    (invoked,) = two["children"]
    assert (invoked["kind"], invoked["run_id"], invoked["function_slug"]) == ("run", child_run, "app-child")
    assert (await get(world, "/v1/runs/x/trace", 400))[
        "error"
    ] == "Invalid run ID: x; an ID is 26 letters and digits"


async def test_a_trace_tells_when_steps_began_and_waits_ended(world: World) -> None:
    await world.register(function("app-fn"))
    run_id = await world.start()
    lease = await world.lease()
    asked_ms = ulid_ms(lease.token)
    work = Op(kind=OpKind.STEP_RUN, id="a" * 40, name="work")
    nap = Op(kind=OpKind.WAIT_FOR_SIGNAL, id="b" * 40, name="nap")
    late_ms = asked_ms + 3_600_000
    pause = Wait(
        f"{run_id}.{nap.id}", run_id, nap.id, "signal", "default", "go", "", "", late_ms, b"", b"null"
    )
    effects = [
        Save(run_id, work.id, b'{"data":7}', False),
        step_note(lease, work, "Completed", asked_ms + 50),
        pause,
        step_note(lease, nap, "Waiting", asked_ms + 1),
    ]
    guard = LeaseGuard(lease.item, lease.token, lease.seen)
    assert (await world.store.apply(guard, effects)).status == "ok"
    await world.record()
    assert (await world.http.post("/v1/signals", json={"signal": "go"})).status_code == 200
    one, two = (await get(world, f"/v1/runs/{run_id}/trace"))["data"]["children"]
    assert (one["started_at"], one["duration_ms"]) == (rfc3339(asked_ms), 50)
    assert (two["status"], two["started_at"]) == ("Completed", rfc3339(asked_ms + 1))
    assert two["ended_at"] is not None
    steps = (await get(world, f"/v1/runs/{run_id}"))["data"]["steps"]
    assert [(each["started_at"], each["ended_at"]) for each in steps] == [
        (each["started_at"], each["ended_at"]) for each in (one, two)
    ]


# ---- functions, apps, backlog


async def test_functions_and_apps_are_listed(world: World) -> None:
    await world.register(function("app-fn"), function("app-a/b", triggers=[{"cron": "0 0 * * *"}]))
    await world.start()
    functions = (await get(world, "/v1/functions"))["data"]
    assert [(f["id"], f["app_id"]) for f in functions] == [("app-a/b", "app"), ("app-fn", "app")]
    assert functions[0]["triggers"] == [{"cron": "0 0 * * *"}]
    assert functions[1]["runs"]["queued"] == 1
    assert "config" not in functions[1]
    assert "no app 'none'" in (await get(world, "/v1/functions", 404, app_id="none"))["error"]
    for slug in ("app-fn", functions[1]["internal_id"]):
        one = (await get(world, f"/v1/functions/{slug}"))["data"]
        assert one.pop("config")["id"] == "app-fn"
        assert one == functions[1]
    assert (await get(world, f"/v1/functions/{quote('app-a/b')}"))["data"]["id"] == "app-a/b"
    assert "no function 'x'" in (await get(world, "/v1/functions/x", 404))["error"]
    (app,) = (await get(world, "/v1/apps"))["data"]
    assert (app["id"], app["function_count"], app["paused"]) == ("app", 2, None)
    one = (await get(world, "/v1/apps/app"))["data"]
    assert one.pop("functions") == ["app-a/b", "app-fn"]
    assert one == app
    assert "no app 'x'" in (await get(world, "/v1/apps/x", 404))["error"]
    await world.http.post("/v1/functions/app-fn/pause", json={"reason": "why"})
    assert (await get(world, "/v1/functions/app-fn"))["data"]["paused"]["reason"] == "why"
    await world.http.post("/v1/apps/app/pause")
    assert (await get(world, "/v1/functions/app-fn"))["data"]["app_paused"]["by"] == "switch"
    assert (await get(world, "/v1/apps/app"))["data"]["paused"]["by"] == "switch"


async def test_the_backlog_is_summed_by_app_and_function(world: World) -> None:
    await a_history(world)
    data = (await get(world, "/v1/backlog"))["data"]
    assert (data["queued"], data["running"]) == (2, 1)
    assert data["oldest_age_s"] >= 0
    (app,) = data["apps"]
    assert (app["app_id"], app["queued"], app["running"]) == ("app", 2, 1)
    assert [(f["function_id"], f["queued"], f["running"]) for f in app["functions"]] == [
        ("app-fn", 1, 1),
        ("app-other", 1, 0),
    ]
    assert (await get(world, "/v1/backlog", app_id="app", function_id="other"))["data"]["queued"] == 1
    for query in ({"app_id": "none"}, {"function_id": "app-typo"}):
        # An autoscaler must not take a name that is written wrong for one without work.
        assert "is registered" in (await get(world, "/v1/backlog", 404, **query))["error"]
    await world.register(appName="idle")
    nothing = (await get(world, "/v1/backlog", app_id="idle"))["data"]
    assert nothing == {"queued": 0, "running": 0, "oldest_age_s": 0.0, "apps": []}
    await world.register(function("app-fn"))
    gone = (await get(world, "/v1/backlog"))["data"]["apps"][-1]
    assert (gone["app_id"], gone["functions"][0]["function_id"]) == (None, "app-other")


# ---- pieces


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("event.data.a == 1", True),
        ("event.data.a == 1\nevent.data.b == 2", True),
        ("event.data.a == 1\n\n  event.data.b == 3", False),
        ("event.data.a == 7\n|| event.data.b == 2", True),
        ("event.data.a ==\n1", True),
        ("event.data.c == 1", False),
    ],
)
def test_lines_of_a_filter_are_all_to_be_true(text: str, wanted: bool) -> None:
    chosen = read_filter(text, EVENT)
    assert chosen is not None
    assert chosen.event(b'{"data":{"a":1,"b":2}}')[0] is wanted
    assert chosen.event(b"no event")[0] is False


def test_a_filter_of_nothing_is_none() -> None:
    assert read_filter(" \n ", EVENT) is None
    with pytest.raises(ApiError, match="51 lines"):
        read_filter("true\n" * 51, EVENT)
    with pytest.raises(ApiError, match="line by line"):
        read_filter("true\nnot this", EVENT)


def test_a_run_without_output_has_null() -> None:
    chosen = read_filter("output == null", EVENT_AND_OUTPUT)
    assert chosen is not None
    assert chosen.run(b"{}", None)[0]
    assert chosen.run(b"{}", b"not json")[0]
    assert not chosen.run(b"{}", b"1")[0]


@pytest.mark.parametrize("cursor", ["a", "====", "é", base64.urlsafe_b64encode(b"\xff\xff").decode()])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ApiError, match="cursor"):
        read_cursor(cursor, "digest")


def test_a_cursor_is_read_as_it_was_written() -> None:
    assert read_cursor(write_cursor("s1-2", "digest"), "digest") == "s1-2"
    assert read_cursor("", "digest") == ""
