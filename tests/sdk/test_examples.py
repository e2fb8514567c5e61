"""The examples that a newcomer runs first do what their README says."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sdk.harness import ROOT, Proc, Server, clean_env, ensure_node_modules, free_port, wait_until

pytestmark = pytest.mark.sdk

EXAMPLES = ROOT / "examples"
ORDER = {"id": "1001", "cents": 4200, "email": "ada@example.com"}


def test_the_demo_prints_the_steps_of_an_order_and_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")],
        env=clean_env(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    completed = [line.split()[2] for line in lines if " s  " in line and "Completed" in line]
    assert completed == ["charge-card", "cool-down", "send-receipt"], done.stdout
    assert lines[-1].startswith("✓ Completed")
    assert "receipt for ch_1001 sent to ada@example.com" in lines[-1]
    assert done.stderr == ""


def test_the_typescript_quickstart_runs(fresh_server: Server, tmp_path: Path) -> None:
    """With the SDK of the tests in place of its own `npm install`."""
    installed = ensure_node_modules()
    modules = tmp_path / "node_modules"
    modules.mkdir()
    (modules / "inngest").symlink_to(installed / "inngest4")
    (modules / "express").symlink_to(installed / "express")
    main = tmp_path / "main.mjs"
    main.write_bytes((EXAMPLES / "typescript-quickstart" / "main.mjs").read_bytes())
    port = free_port()
    env = clean_env({"PORT": str(port), "INNGEST_BASE_URL": fresh_server.url})
    app = Proc("quickstart", ["node", str(main)], env=env, log=tmp_path / "app.log", cwd=tmp_path)
    app.start()
    try:
        url = f"http://127.0.0.1:{port}/api/inngest"
        app.wait_ready(url)
        assert fresh_server.api.http.put(url).status_code == 200
        event_id = fresh_server.api.send("shop/order.placed", ORDER)
        (run,) = fresh_server.api.wait_runs(event_id)
        ended = fresh_server.api.wait_end(str(run["run_id"]))
        assert ended["status"] == "Completed", ended
        assert ended["output"]["receipt"] == "receipt for ch_1001 sent to ada@example.com"
    finally:
        app.stop()


@pytest.mark.parametrize("folder", ["python-quickstart", "typescript-quickstart"])
def test_the_readmes_commands_name_what_the_example_has(folder: str) -> None:
    readme = (EXAMPLES / folder / "README.md").read_text()
    source = next(p for p in (EXAMPLES / folder).iterdir() if p.stem == "main").read_text()
    assert "shop/order.placed" in readme
    assert "shop/order.placed" in source
    assert "innkeeper dev -u http://127.0.0.1:" in readme
    for line in readme.splitlines():
        if "innkeeper dev -u" in line:
            port = line.split("127.0.0.1:")[1].split("/")[0]
            assert port in source or f"--port {port}" in readme


def test_the_python_quickstart_is_what_its_command_serves(tmp_path: Path) -> None:
    """`uvicorn main:app` as in the README, without any server."""
    port = free_port()
    argv = [str(Path(sys.executable).parent / "uvicorn"), "main:app", "--port", str(port)]
    folder = EXAMPLES / "python-quickstart"
    app = Proc("quickstart", argv, env=clean_env(), log=tmp_path / "app.log", cwd=folder)
    app.start()
    try:
        app.wait_ready(f"http://127.0.0.1:{port}/api/inngest")
        wait_until(lambda: "Uvicorn running" in app.log_text(), "uvicorn says where it serves")
    finally:
        app.stop()
