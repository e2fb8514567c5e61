"""Limits that change while runs are queued: by a sync with other options, and by a manifest that is edited."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.flow import Changing, Scene, why
from tests.sdk.harness import JS4, PY05, Server, make_app, on, wait_until

pytestmark = pytest.mark.sdk


@on(PY05, JS4)
def test_a_raised_limit_lets_in_at_once_and_a_lowered_one_waits(scene: Scene, changing: Changing) -> None:
    changing.serve(concurrency=[{"limit": 1}])
    runs = scene.runs("flow-changing", 7, gated=True)
    scene.stays(0)
    changing.serve(concurrency=[{"limit": 3}])
    scene.stays(0, 1, 2)
    changing.serve(concurrency=[{"limit": 1}])
    for n in (0, 1):
        scene.open(n)
        runs[n].end()
        scene.settle()
    assert scene.entered() == [0, 1, 2], "there is still one at work"
    scene.open(2)
    scene.stays(0, 1, 2, 3)
    changing.serve()
    scene.wait_entered(4, 5, 6)
    scene.open()
    for run in runs:
        run.end()
    assert [others for _, others in scene.busy()][:4] == [0, 1, 2, 0]


@on(PY05, JS4)
def test_what_is_queued_is_counted_by_a_key_that_comes_and_changes(scene: Scene, changing: Changing) -> None:
    changing.serve(concurrency=[{"limit": 1}])
    tags = (("a", "x"), ("a", "x"), ("b", "x"), ("b", "y"), ("a", "y"))
    runs = [scene.run("flow-changing", n, key=key, tag=tag, gated=True) for n, (key, tag) in enumerate(tags)]
    scene.stays(0)
    # The one that is at work was let in under the old limit: it counts for no key.
    changing.serve(concurrency=[{"limit": 1, "key": "event.data.key"}])
    scene.stays(0, 1, 2)
    scene.open(0)
    runs[0].end()
    scene.stays(0, 1, 2)
    changing.serve(concurrency=[{"limit": 1, "key": "event.data.tag"}])
    # One of the two with the tag y.
    wait_until(lambda: len(scene.entered()) == 4, "another key has a place", seen=scene.effects)
    scene.settle()
    *others, let_in = scene.entered()
    assert sorted(others) == [0, 1, 2]
    scene.open(let_in)
    scene.stays(0, 1, 2, 3, 4)
    scene.open()
    for run in runs:
        run.end()


@on(PY05, JS4)
def test_a_throttle_that_is_taken_away_lets_go_what_waits(scene: Scene, changing: Changing) -> None:
    changing.serve(throttle=1)
    runs = scene.runs("flow-changing", 3)
    runs[0].end()
    scene.stays(0)
    changing.serve()
    for run in runs:
        run.end()


MANIFESTS = """\
apiVersion: innkeeper.dev/v1alpha1
kind: InngestApp
metadata: {{name: flow}}
spec:
  endpoint: {{url: "{url}"}}
  paused: {paused}
---
apiVersion: innkeeper.dev/v1alpha1
kind: Function
metadata: {{name: changed}}
spec:
  appRef: {{name: flow}}
  id: {function}
{more}
"""


class Declared:
    """An app under manifests that a test edits."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "manifests" / "flow.yaml"
        self._file.parent.mkdir()
        self.server = Server(folder, more=["--manifests", str(self._file.parent), "--poll-interval", "0.2"])
        self.app = make_app(PY05, folder, self.server.api)
        self.write()

    def write(self, *lines: str, function: str = "flow-child", app_paused: bool = False) -> None:
        """Write the manifests; `lines` are of the Function's spec."""
        more = "\n".join(f"  {line}" for line in lines)
        fresh = self._file.with_suffix(".new")
        paused = "true" if app_paused else "false"
        fresh.write_text(MANIFESTS.format(url=self.app.url, more=more, function=function, paused=paused))
        fresh.replace(self._file)

    def change(self, *lines: str, function: str = "flow-child", app_paused: bool = False) -> None:
        """Write the manifests, and wait until what they say holds."""
        before = self.version()
        self.write(*lines, function=function, app_paused=app_paused)
        wait_until(lambda: self.version() > before, f"{lines} holds", seen=self.server.proc.log_text)

    def version(self) -> int:
        """How often what the app and its manifests say has changed; 0 while the app is not known."""
        handlers = self.server.api.http.get("/dev").json()["handlers"]
        return next((int(each["version"]) for each in handlers if each["app"] == self.app.id), 0)


@pytest.fixture
def declared(tmp_path: Path) -> Iterator[Declared]:
    declared = Declared(tmp_path)
    try:
        declared.server.start()
        declared.app.start()
        wait_until(declared.version, "the app is registered", seen=declared.server.proc.log_text)
        yield declared
    finally:
        declared.app.stop()
        declared.server.stop()


def test_a_manifest_limits_pauses_and_lets_go_without_the_app_doing_anything(declared: Declared) -> None:
    """The function declares nothing; its Function's spec does, and changes while runs are queued."""
    scene = Scene(declared.app)
    declared.change("concurrency: [{limit: 1}]")
    runs = scene.runs("flow-child", 3, gated=True)
    scene.stays(0)
    declared.change("concurrency: [{limit: 2}]")
    scene.stays(0, 1)
    declared.change("concurrency: [{limit: 2}]", "paused: true", "pausePolicy: {newRuns: Queue}")
    runs.append(scene.run("flow-child", 3))
    scene.open()
    for run in runs[:2]:
        run.end()
    scene.stays(0, 1)
    declared.change("concurrency: [{limit: 2}]", "paused: true")
    for run in runs[2:]:
        run.end()
    skipped = scene.run("flow-child", 4)
    skipped.end("Skipped")
    assert why(skipped, "skipped") == "paused"
    declared.change()
    scene.run("flow-child", 5).end()
    assert scene.entered() == [0, 1, 2, 3, 5]


def test_what_is_held_is_not_called_until_it_may_go_on(declared: Declared) -> None:
    """A function's runs before their next step; all of a paused app, which takes new runs all the while."""
    scene = Scene(declared.app)
    run = scene.run("flow-two-steps", gated=True)
    scene.wait_entered(0)
    declared.change("paused: true", "pausePolicy: {running: Hold}", function="flow-two-steps")
    scene.open(0)
    wait_until(lambda: scene.effects("leave"), "the first step is done", seen=scene.effects)
    scene.settle()
    assert scene.effects("second") == []
    declared.change(function="flow-two-steps")
    run.end()
    assert len(scene.effects("second")) == 1

    declared.change(app_paused=True)
    waiting = scene.run("flow-child", 7)
    assert waiting.now()["status"] == "Scheduled"
    scene.open()
    declared.change("concurrency: [{limit: 2}]", app_paused=True)
    assert (waiting.now()["status"], scene.entered()) == ("Scheduled", [0])
    declared.change()
    waiting.end()
    assert scene.entered() == [0, 7]
