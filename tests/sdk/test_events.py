"""Events start functions, resume waits, and take effect in the order in which they were accepted."""

import uuid

import pytest

from tests.sdk.harness import ALL, PY05, TYPESCRIPT, App, on, wait_until

pytestmark = pytest.mark.sdk


def unique() -> str:
    """A value that no other test uses."""
    return uuid.uuid4().hex


@on(*ALL)
def test_a_wait_is_resumed_by_the_event_that_its_expression_accepts(app: App) -> None:
    key = unique()
    run = app.trigger("wait-if", {"key": key})
    run.wait_step("answer")
    app.api.send(app.event("answer"), {"key": unique(), "ok": True})
    app.api.send(app.event("answer"), {"key": key, "ok": False})
    app.api.send(app.event("answer"), {"key": key, "ok": True, "text": "yes"})
    assert run.end()["output"] == {
        "name": app.event("answer"),
        "data": {"key": key, "ok": True, "text": "yes"},
        "has_id": True,
        "has_ts": True,
    }


# `match` is TypeScript's short form of an expression.
@on(*TYPESCRIPT)
def test_a_wait_by_match_is_resumed(app: App) -> None:
    key = unique()
    run = app.trigger("wait-match", {"key": key})
    run.wait_step("answer")
    app.api.send(app.event("answer"), {"key": unique()})
    app.api.send(app.event("answer"), {"key": key})
    assert run.end()["output"]["data"] == {"key": key}


@on(*ALL)
def test_one_event_resumes_every_run_that_waits_for_it(app: App) -> None:
    name = f"answer-{unique()}"
    runs = [app.trigger("wait-any", {"listen": name}) for _ in range(3)]
    for run in runs:
        run.wait_step("answer")
    app.api.send(app.event(name), {"n": 1})
    assert [run.end()["output"]["data"] for run in runs] == [{"n": 1}] * 3


@on(*ALL)
def test_an_event_that_came_before_the_wait_does_not_resume_it(app: App) -> None:
    name = f"answer-{unique()}"
    app.api.send(app.event(name), {"n": "too early"})
    run = app.trigger("wait-any", {"listen": name})
    run.wait_step("answer")
    app.api.send(app.event(name), {"n": "in time"})
    assert run.end()["output"]["data"] == {"n": "in time"}


@on(*ALL)
def test_a_wait_that_times_out_gives_nothing_and_the_run_goes_on(app: App) -> None:
    run = app.trigger("wait-timeout")
    assert run.end()["output"] == {"timed_out": True}
    assert run.bodies() == {"after": 1}


@on(*ALL)
def test_a_wait_is_registered_before_a_parallel_step_can_send_its_event(app: App) -> None:
    key = unique()
    run = app.trigger("wait-and-send", {"key": key})
    assert run.end()["output"]["data"] == {"key": key}


@on(*ALL)
def test_events_sent_by_a_step_are_sent_once_and_start_functions(app: App) -> None:
    run = app.trigger("send-event")
    ids = run.end()["output"]["ids"]
    assert len(ids) == 2
    outputs = [app.run_of(event_id).end()["output"] for event_id in ids]
    assert outputs == [{"i": 0, "from": run.id}, {"i": 1, "from": run.id}]
    started = [e for e in app.effects(fn="received") if e["data"]["from"] == run.id]
    assert len(started) == 2


@on(*ALL)
def test_the_sdks_own_client_sends_events(app: App) -> None:
    ids = app.send_with_sdk([{"name": app.event("no-step"), "data": {"name": n}} for n in ("ada", "bob")])
    assert [app.run_of(i).end()["output"]["hello"] for i in ids] == ["ada", "bob"]


@on(*ALL)
def test_an_event_starts_every_function_that_listens_to_it(app: App) -> None:
    event_id = app.api.send(app.event("fan"))
    runs = app.api.wait_runs(event_id, 2)
    ended = [app.api.wait_end(str(run["run_id"])) for run in runs]
    assert sorted(run["output"] for run in ended) == ["a", "b"]


@on(*ALL)
def test_wildcard_triggers_match_below_their_prefix(app: App) -> None:
    for name in ("wild/one", "wild/two/three", "post.created"):
        assert app.trigger(name).end()["output"] == {"event": app.event(name)}


@on(*ALL)
def test_a_trigger_expression_decides(app: App) -> None:
    """The refused events are sent first: had they started runs, these would be there before the other."""
    refused = app.api.send(app.event("trigger-if"), {"total": 100})
    absent = app.api.send(app.event("trigger-if"), {})
    accepted = app.trigger("trigger-if", {"total": 101})
    assert accepted.end()["output"] == {"total": 101}
    assert app.api.runs_of(refused) == []
    assert app.api.runs_of(absent) == []


@on(*ALL)
def test_each_trigger_of_a_function_starts_it(app: App) -> None:
    refused = app.api.send(app.event("right"), {"go": False})
    assert app.trigger("left").end()["output"] == {"event": app.event("left")}
    assert app.trigger("right", {"go": True}).end()["output"] == {"event": app.event("right")}
    assert app.api.runs_of(refused) == []


@on(*ALL)
def test_a_second_event_with_the_same_id_starts_nothing(app: App) -> None:
    mine = f"once-{unique()}"
    first = app.api.send(app.event("no-step"), {"name": "first"}, id=mine)
    second = app.api.send(app.event("no-step"), {"name": "second"}, id=mine)
    after = app.trigger("no-step", {"name": "after"})
    after.end()
    assert app.run_of(first).end()["output"]["hello"] == "first"
    others = [run for run in app.api.runs_of(second) if run["event_id"] != first]
    assert others == [], "the second event started a run of its own"


@on(PY05)
def test_a_repeated_send_with_the_same_seed_gives_the_same_ids_and_starts_once(app: App) -> None:
    """What an SDK does when the answer to its send was lost."""
    body = [{"name": app.event("no-step"), "data": {"i": i}} for i in range(2)]
    seed = "1743130137367,eii2YKXRVTJPuA=="
    first = app.api.post_events(body, **{"x-inngest-event-id-seed": seed}).json()["ids"]
    again = app.api.post_events(body, **{"x-inngest-event-id-seed": seed}).json()["ids"]
    assert first == again == ["01JQDAE4RQF8MBCR55T5AK4KXS", "01JQDAE4RQF8MBCR55T5AK4KXT"]
    for event_id in first:
        app.run_of(event_id).end()
    started = [e for e in app.effects(fn="no-step") if e["run_id"] in {app.run_of(i).id for i in first}]
    assert len(started) == 2


@on(PY05)
def test_many_events_in_one_request_start_a_run_each_in_order(app: App) -> None:
    reply = app.api.post_events([{"name": app.event("no-step"), "data": {"name": str(i)}} for i in range(50)])
    ids = reply.json()["ids"]
    assert len(set(ids)) == 50
    assert ids == sorted(ids), "ids tell the order of acceptance"

    def all_done() -> list[str] | None:
        runs = [app.api.runs_of(i) for i in ids]
        done = [r[0]["output"]["hello"] for r in runs if r and r[0]["status"] == "Completed"]
        return done if len(done) == len(ids) else None

    done = wait_until(all_done, "50 runs completed", timeout_s=40, interval_s=0.2)
    assert done == [str(i) for i in range(50)]
