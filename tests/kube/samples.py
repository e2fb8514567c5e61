"""A custom kind of the tests' own, and its objects."""

from typing import Any

from tests.kube.errors import Obj


def crd(**version: Any) -> Obj:
    """`cakes.test.dev/v1`; what is given replaces fields of its one version."""
    spec = {
        "type": "object",
        "required": ["flavour"],
        "properties": {
            "flavour": {"type": "string", "enum": ["plum", "nut", "lemon"], "maxLength": 10},
            "layers": {"type": "integer", "default": 1, "minimum": 1, "maximum": 9},
            "eaten": {"type": "boolean"},
            "note": {"type": "string", "pattern": "^[a-z ]*$", "nullable": True},
            "bakedFor": {"type": "string", "format": "duration"},
            "port": {"x-kubernetes-int-or-string": True},
            "oven": {
                "type": "object",
                "properties": {"heat": {"type": "integer"}, "fan": {"type": "boolean", "default": False}},
            },
            "guests": {
                "type": "array",
                "maxItems": 3,
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                },
            },
            "extra": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "prices": {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "integer"}},
        },
    }
    condition = {
        "type": "object",
        "required": ["type", "status"],
        "properties": {"type": {"type": "string"}, "status": {"type": "string"}},
    }
    status = {
        "type": "object",
        "properties": {
            "phase": {"type": "string"},
            "conditions": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": condition,
            },
        },
    }
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": spec, "status": status}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "cakes.test.dev"},
        "spec": {
            "group": "test.dev",
            "scope": "Namespaced",
            "names": {"kind": "Cake", "plural": "cakes", "shortNames": ["ck"], "categories": ["food"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "selectableFields": [{"jsonPath": ".spec.flavour"}, {"jsonPath": ".spec.eaten"}],
                    "schema": {"openAPIV3Schema": schema},
                }
                | version
            ],
        },
    }


def cake(name: str = "a", namespace: str = "default", metadata: Obj | None = None, **spec: Any) -> Obj:
    """A Cake, of plum unless said otherwise."""
    return {
        "apiVersion": "test.dev/v1",
        "kind": "Cake",
        "metadata": {"name": name, "namespace": namespace} | (metadata or {}),
        "spec": {"flavour": "plum"} | spec,
    }


def config_map(name: str, namespace: str = "default", **metadata: Any) -> Obj:
    """A ConfigMap, the plainest of kinds."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace} | metadata,
        "data": {"a": "1"},
    }
