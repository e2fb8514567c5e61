"""Webhooks of manifests, on a laptop: a real store, a real sandbox, the operator's plans."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from innkeeper_apps.sandbox.pool import Sandbox, SandboxLimits
from innkeeper_apps.sealing import Sealer
from innkeeper_cli.declared import Declared
from innkeeper_cli.declared_webhooks import DeclaredWebhooks, webhook_key
from innkeeper_engine.model.clock import SystemClock
from innkeeper_engine.model.environments import key_digest
from innkeeper_engine.model.webhooks import Webhook
from innkeeper_engine.store.store import Store
from innkeeper_engine.store.webhooks import WebhookStore

KEY = bytes(range(32))
API = "apiVersion: innkeeper.dev/v1alpha1\nkind: Webhook\n"
PLAIN = API + "metadata: {name: plain}\nspec: {transform: {script: 'function transform() {}'}}\n"
PROVED = """
metadata: {name: proved}
spec:
  transform: {configMapRef: {name: scripts, key: hook.js}}
  verify: {github: {secretRef: {name: github, key: secret}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: scripts}
data: {hook.js: "function transform(evt) { return {name: 'a'} }"}
---
apiVersion: v1
kind: Secret
metadata: {name: github, labels: {innkeeper.dev/key: webhook}}
stringData: {secret: "the-secret"}
"""


class Laptop:
    """A folder of manifests, and what becomes of them."""

    def __init__(self, folder: Path, store: Store, sandbox: Sandbox) -> None:
        self.folder = folder
        self.store = WebhookStore(store)
        self.said: list[str] = []
        self._sandbox = sandbox
        self._made: DeclaredWebhooks | None = None

    async def write(self, **texts: str) -> dict[str, Webhook]:
        """Make these the only manifests; the webhooks that the store has then, by name."""
        for path in self.folder.iterdir():
            path.unlink()
        for name, text in texts.items():
            (self.folder / f"{name}.yaml").write_text(text)
        if self._made is None:
            self._made = DeclaredWebhooks(
                Declared(self.folder, self.said.append),
                self.store,
                self._sandbox,
                SystemClock(),
                env="default",
                encryption_key=KEY,
                base_url="http://localhost:8288",
            )
        await self._made.write()
        return {each.name: each for each in (await self.store.read()).webhooks}

    def url(self, name: str) -> str:
        """The URL that was told last."""
        start = f"Webhook {name}: post to "
        return [each for each in self.said if each.startswith(start)][-1].removeprefix(start)


@pytest.fixture
async def laptop(tmp_path: Path, store: Store) -> AsyncIterator[Laptop]:
    sandbox = Sandbox(
        SandboxLimits(workers=1, cpu_ms=1_000, wall_ms=20_000, start_ms=60_000, waiting_ms=60_000)
    )
    yield Laptop(tmp_path, store, sandbox)
    await sandbox.close()


async def test_a_webhook_of_a_manifest_is_stored_and_its_url_told(laptop: Laptop) -> None:
    found = await laptop.write(plain=PLAIN)
    url = laptop.url("plain")
    assert url.startswith("http://localhost:8288/w/")
    hook = found["default/plain"]
    assert (hook.env, hook.transform, hook.proof) == ("default", "function transform() {}", None)
    assert hook.digest == key_digest(url.rpartition("/")[2])


async def test_scripts_and_secrets_are_taken_from_the_same_folder(laptop: Laptop) -> None:
    hook = (await laptop.write(proved=API + PROVED))["default/proved"]
    assert hook.transform.startswith("function transform(evt)")
    assert hook.proof is not None
    assert [Sealer(webhook_key(KEY)).unseal(each) for each in hook.proof.secrets] == [b"the-secret"]
    assert "the-secret" not in "".join(laptop.said)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (PLAIN.replace("() {}", "( {}"), "InvalidTransform: line 1"),
        (API + PROVED.replace("name: github, labels", "name: other, labels"), "SecretNotFound"),
        (API + PROVED.replace("innkeeper.dev/key: webhook", "a: b"), "SecretNotLabelled"),
        (API + PROVED.replace("name: scripts}\ndata", "name: other}\ndata"), "ConfigMapNotFound"),
    ],
)
async def test_what_cannot_be_used_is_told(laptop: Laptop, text: str, says: str) -> None:
    assert await laptop.write(hook=text) == {}
    (said,) = laptop.said
    assert says in said


async def test_a_change_that_cannot_be_used_leaves_the_webhook_as_it_was(laptop: Laptop) -> None:
    before = await laptop.write(plain=PLAIN)
    assert await laptop.write(plain=PLAIN.replace("() {}", "( {}")) == before
    assert "InvalidTransform" in laptop.said[-1]


async def test_changes_hold_and_what_is_gone_goes_but_for_other_environments(laptop: Laptop) -> None:
    other = Webhook(name="default/plain", env="other", digest="d", transform="")
    await laptop.store.write(other)
    before = await laptop.write(plain=PLAIN)
    after = await laptop.write(proved=API + PROVED)
    assert set(before) == {"default/plain"}
    assert after.pop("default/proved").env == "default"
    assert after == {"default/plain": other}
