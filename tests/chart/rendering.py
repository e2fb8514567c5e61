"""The chart as Helm's own code renders it, and its objects as plain data."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "innkeeper"
VALUES_FILES = sorted((CHART / "ci").glob("*-values.yaml"))
ROLES = ("gateway", "executor", "operator")
COMPONENT = "app.kubernetes.io/component"
INSTANCE = "app.kubernetes.io/instance"
NAMESPACE = "innkeeper-system"


def values_of(name: str) -> Json:
    """The values of `ci/<name>-values.yaml`."""
    return read_yaml(CHART / "ci" / f"{name}-values.yaml")


def read_yaml(path: Path) -> Json:
    """One YAML document."""
    loaded: Json = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    return loaded


@dataclass(frozen=True)
class Pod:
    """A pod, or the template of one."""

    component: str
    labels: dict[str, str]
    spec: Json
    owner: Json

    @property
    def container(self) -> Json:
        """Its only container."""
        (found,) = self.spec["containers"]
        assert isinstance(found, dict)
        return found

    @property
    def env(self) -> dict[str, str]:
        """Variables with a literal value."""
        return {item["name"]: item["value"] for item in self.container.get("env", ()) if "value" in item}


@dataclass(frozen=True)
class Release:
    """What `helm install` would send."""

    name: str
    namespace: str
    objects: tuple[Json, ...]
    notes: str

    def of(self, kind: str) -> list[Json]:
        """All objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, suffix: str) -> Json:
        """The object of a kind whose name ends with `-<suffix>`."""
        (found,) = (each for each in self.of(kind) if each["metadata"]["name"].endswith(f"-{suffix}"))
        return found

    def pods(self) -> Iterator[Pod]:
        """Every pod that would run, hooks included."""
        for each in self.objects:
            if each["kind"] == "Pod":
                yield _pod(each["metadata"], each["spec"], each)
            elif each["kind"] in ("Deployment", "StatefulSet", "Job"):
                template = each["spec"]["template"]
                yield _pod(template["metadata"], template["spec"], each)
            elif each["kind"] == "CronJob":
                template = each["spec"]["jobTemplate"]["spec"]["template"]
                yield _pod(template["metadata"], template["spec"], each)

    def pod(self, component: str) -> Pod:
        """The pod of a component."""
        (found,) = (each for each in self.pods() if each.component == component)
        return found

    def secret(self, suffix: str) -> dict[str, str]:
        """The decoded data of the Secret whose name ends with `-<suffix>`."""
        return decoded(self.one("Secret", suffix))


def _pod(metadata: Json, spec: Json, owner: Json) -> Pod:
    labels = metadata["labels"]
    return Pod(labels[COMPONENT], labels, spec, owner)


def decoded(secret: Json) -> dict[str, str]:
    """The data of a Secret as text."""
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def read(rendered: Mapping[str, str], name: str, namespace: str) -> Release:
    """The objects in what Helm rendered."""
    notes = ""
    objects: list[Json] = []
    for path, text in rendered.items():
        if path.endswith("/NOTES.txt"):
            notes = text
        else:
            objects += [each for each in yaml.load_all(text, yaml.CSafeLoader) if each]
    return Release(name, namespace, tuple(objects), notes)


def render(
    chart: Chart,
    values: Json | None = None,
    *,
    name: str = "innkeeper",
    namespace: str = NAMESPACE,
    **how: bool,
) -> Release:
    """Render without a cluster."""
    return read(chart.render(values or {}, name=name, namespace=namespace, **how), name, namespace)


def matches(selector: Json, labels: Mapping[str, str]) -> bool:
    """Whether a label selector of Kubernetes selects an object with these labels."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In", "the only operator that the chart uses"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True
