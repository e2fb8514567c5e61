"""Manifests from files: what a laptop reads of what a cluster gets."""

from pathlib import Path

import pytest

from innkeeper_cli.manifests import ManifestError, load

ROOT = Path(__file__).resolve().parents[2]

APP = """
apiVersion: innkeeper.dev/v1alpha1
kind: InngestApp
metadata: {name: shop}
spec: {endpoint: {service: {name: shop, port: 3000}}}
"""
FUNCTION = """
apiVersion: innkeeper.dev/v1alpha1
kind: Function
metadata: {name: f}
spec: {appRef: {name: shop}, id: f}
"""


WEBHOOK = """
apiVersion: innkeeper.dev/v1alpha1
kind: Webhook
metadata: {name: h}
spec: {transform: {script: x}, verify: {github: {secretRef: {name: s, key: k}}}}
"""


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_the_examples_manifests_say_where_their_apps_are() -> None:
    shop = load(ROOT / "examples" / "shop" / "k8s")
    pipeline = load(ROOT / "examples" / "pipeline" / "k8s")
    assert list(shop.urls()) == ["http://localhost:3000/api/inngest"]
    # By the name of the port, which the Service explains.
    assert list(pipeline.urls()) == ["http://localhost:8000/api/inngest"]
    (app,) = pipeline.apps
    assert [each.spec.id for each in pipeline.functions_of(app)] == ["count-part", "count-words", "sweep"]


def test_folders_in_the_folder_lists_and_json_are_read(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "app.yml").write_text(APP)
    (tmp_path / "functions.json").write_text(
        '{"kind": "List", "apiVersion": "v1", "items": [{"apiVersion": "innkeeper.dev/v1alpha1", "kind": "Function", '
        '"metadata": {"name": "g"}, "spec": {"appRef": {"name": "shop"}, "id": "g"}}]}'
    )
    (tmp_path / "notes.txt").write_text("no manifest: [")
    found = load(tmp_path)
    assert [app.meta.name for app in found.apps] == ["shop"]
    assert [function.meta.name for function in found.functions_of(found.apps[0])] == ["g"]


def test_a_url_is_taken_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, app=APP.replace("{service: {name: shop, port: 3000}}", "{url: 'https://shop.example/x'}"))
    assert list(load(tmp_path).urls()) == ["https://shop.example/x"]


def test_kinds_that_a_laptop_does_not_use_are_named(tmp_path: Path) -> None:
    write(tmp_path, hook="apiVersion: innkeeper.dev/v1alpha1\nkind: Tenant\nmetadata: {name: h}\nspec: {}\n")
    assert load(tmp_path).passed_over == ("Tenant",)


def test_webhooks_come_with_what_they_name(tmp_path: Path) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: n}\n"
    secret += "data: {a: YQ==, b: YQ==}\nstringData: {b: b}"
    script = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a.js: x}"
    found = load(write(tmp_path, hook=WEBHOOK, secret=secret, script=script))
    (webhook,) = found.webhooks
    assert webhook.meta.key == ("default", "h")
    assert found.secrets["n", "s"].data == {"a": b"a", "b": b"b"}
    assert found.config_maps["default", "c"].data == {"a.js": "x"}
    assert found.passed_over == ()


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"app": APP.replace("v1alpha1", "v2")}, "write innkeeper.dev/v1alpha1"),
        (
            {"app": APP.replace("port: 3000", "port: http")},
            "no Service 'shop' among the manifests names a port 'http'",
        ),
        ({"app": APP.replace("{service: {name: shop, port: 3000}}", "{}")}, "exactly one of service and url"),
        ({"app": APP, "twice": APP}, "there are two of this kind and name"),
        (
            {"f": FUNCTION.replace("id: f", "id: f, concurency: []")},
            "spec.concurency: there is no such field",
        ),
        (
            {"f": FUNCTION.replace("id: f", "id: f, concurrency: [{limit: 1, keys: a}]")},
            r"spec.concurrency\[0\].keys: there is no such field",
        ),
        ({"f": FUNCTION.replace("id: f", "id: f, throttle: {limit: 1, preiod: 1m}")}, "throttle"),
        ({"f": FUNCTION.replace("id: f", "id: f, retries: many")}, "retries"),
        ({"f": FUNCTION.replace("metadata: {name: f}", "metadata: {}")}, "metadata.name is missing"),
        ({"f": "a: [\n"}, "is no YAML"),
        ({"h": WEBHOOK.replace("script: x", "")}, "exactly one of script and configMapRef"),
        (
            {"h": WEBHOOK.replace("{github:", "{slack: {secretRef: {name: s, key: k}}, github:")},
            "exactly one of github,",
        ),
        (
            {"s": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: [a]"},
            "Secret s: stringData: must be an object of texts",
        ),
        ({"h": WEBHOOK.replace("verify:", "verfy:")}, "spec.verfy: there is no such field"),
    ],
)
def test_what_cannot_be_used_is_named_with_file_and_field(
    tmp_path: Path, texts: dict[str, str], says: str
) -> None:
    with pytest.raises(ManifestError, match=says) as raised:
        load(write(tmp_path, **texts)).urls()
    assert "shop" in str(raised.value) or str(tmp_path) in str(raised.value)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such folder"):
        load(tmp_path / "nowhere")
