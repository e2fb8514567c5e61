"""What was acknowledged survives the end of the server, orderly or not, and an app that is away."""

from pathlib import Path

import pytest

from tests.sdk.harness import JS3, JS4, PY05, App, Run, Server, make_app, wait_until

pytestmark = pytest.mark.sdk


def restarted(server: Server, folder: Path, *, kill: bool) -> Server:
    """The server again, on the same port and data."""
    if kill:
        server.proc.kill()
    else:
        server.stop()
    return Server(folder, port=server.port).start()


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("sdk", [PY05, JS4, JS3])
def test_a_sleeping_run_goes_on_after_a_restart(sdk: str, kill: bool, tmp_path: Path) -> None:
    server = Server(tmp_path).start()
    app = make_app(sdk, tmp_path, server.api)
    try:
        app.start().sync_ok()
        run = app.trigger("restart")
        run.wait_step("nap")
        server = restarted(server, tmp_path, kill=kill)
        assert run.end()["output"] == "AFTER"
        assert run.bodies() == {"before": 1, "after": 1}
        slept_ms = run.effects("after")[0]["at_ms"] - run.effects("before")[0]["at_ms"]
        assert slept_ms >= 4000
    finally:
        app.stop()
        server.stop()


def test_events_that_were_acknowledged_before_a_crash_all_start_their_runs(tmp_path: Path) -> None:
    server = Server(tmp_path).start()
    app = make_app(PY05, tmp_path, server.api)
    try:
        app.start().sync_ok()
        app.stop()
        ids = [app.api.send(app.event("patient"), {"i": i}) for i in range(30)]
        server = restarted(server, tmp_path, kill=True)
        app.start()
        runs = [Run(app, i, str(app.api.wait_runs(i)[0]["run_id"])) for i in ids]
        for run in runs:
            assert run.end(timeout_s=60)["output"] == "served"
        assert len({run.id for run in runs}) == len(ids)
    finally:
        app.stop()
        server.stop()


def test_a_run_waits_for_an_app_that_is_away(tmp_path: Path) -> None:
    server = Server(tmp_path, env={"INNKEEPER_RETRY_BACKOFF_S": "0.5"}).start()
    app: App = make_app(JS4, tmp_path, server.api)
    try:
        app.start().sync_ok()
        app.stop()
        run = app.trigger("patient")
        assert run.now()["status"] != "Failed"
        app.start()
        assert run.end()["output"] == "served"
        assert run.bodies() == {"body": 1}
    finally:
        app.stop()
        server.stop()


def test_the_server_ends_in_good_order_with_nothing_left_behind(tmp_path: Path) -> None:
    """An embedded database that outlived its owner would hold the data directory."""
    server = Server(tmp_path).start()
    children = server.proc.descendants()
    assert server.proc.stop() == 0
    wait_until(lambda: not [c for c in children if c.is_running()], "all children ended", timeout_s=10)
