"""Custom resources from files, for `innkeeper dev --manifests`: read, checked, and looked up by app.

The same files go to a cluster by `kubectl apply`. Objects of other kinds are passed over, but for Services, which say
what number a named port has, and for the ConfigMaps and Secrets that Webhooks may name. Nothing here asks an app or
writes a registry.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
import yaml

from innkeeper_cli.errors import RoleError
from innkeeper_operator.objects import (
    AppObject,
    ConfigMapObject,
    FunctionObject,
    SecretObject,
    Unreadable,
    WebhookObject,
    read_app,
    read_config_map,
    read_function,
    read_meta,
    read_secret,
    read_webhook,
)
from innkeeper_operator.specs import (
    API_VERSION,
    GROUP,
    AppSpec,
    FunctionSpec,
    ServiceRef,
    Verify,
    WebhookSpec,
)

_SUFFIXES = (".yaml", ".yml", ".json")
_MOST_BYTES = 4 * 1024 * 1024
_LOCAL = "localhost"

DEFAULT_NAMESPACE = "default"
"""Where an object is that names none, as for `kubectl apply`."""


class ManifestError(RoleError):
    """A manifest that cannot be used; the message names the file, the object and the field."""


class Manifests(msgspec.Struct, frozen=True):
    """What a folder declares."""

    apps: tuple[AppObject, ...]
    functions: tuple[FunctionObject, ...]
    ports: dict[tuple[str, str], int]
    """Port number by Service and port name."""
    passed_over: tuple[str, ...]
    """Kinds of this group that are not used on a laptop yet."""
    webhooks: tuple[WebhookObject, ...] = ()
    config_maps: dict[tuple[str, str], ConfigMapObject] = {}
    """By namespace and name."""
    secrets: dict[tuple[str, str], SecretObject] = {}
    """By namespace and name; `stringData` counts as in a cluster."""

    def urls(self) -> dict[str, AppObject]:
        """Where each app is on this machine, in the order of the files.

        A Service is the machine itself: what listens in a pod on a port listens on `localhost` on the same one.

        Raises:
            ManifestError: a named port that no Service here explains.
        """
        return {self._url(app): app for app in self.apps}

    def _url(self, app: AppObject) -> str:
        endpoint = app.spec.endpoint
        if endpoint.url is not None:
            return endpoint.url
        assert endpoint.service is not None
        service = endpoint.service
        return f"{service.scheme}://{_LOCAL}:{self._port(app, service)}{service.path}"

    def _port(self, app: AppObject, service: ServiceRef) -> int:
        if isinstance(service.port, int):
            return service.port
        number = self.ports.get((service.name, service.port))
        if number is None:
            raise ManifestError(
                f"InngestApp {app.meta.name}: no Service {service.name!r} among the manifests names a port "
                f"{service.port!r}: add its manifest, or write the number of the port"
            )
        return number

    def functions_of(self, app: AppObject) -> tuple[FunctionObject, ...]:
        """The Functions that name this app."""
        return tuple(each for each in self.functions if each.spec.app_ref.name == app.meta.name)


def load(folder: Path) -> Manifests:
    """Read all manifests of a folder and the folders in it (or one file), in the order of their paths.

    Raises:
        ManifestError: a file cannot be read, or an object in it is not what its kind wants.
    """
    apps: dict[str, AppObject] = {}
    functions: dict[str, FunctionObject] = {}
    ports: dict[tuple[str, str], int] = {}
    passed_over: list[str] = []
    webhooks: dict[str, WebhookObject] = {}
    config_maps: dict[tuple[str, str], ConfigMapObject] = {}
    secrets: dict[tuple[str, str], SecretObject] = {}
    for where, raw in _objects(folder):
        kind, group = raw.get("kind"), str(raw.get("apiVersion", "")).partition("/")[0]
        if kind == "Service" and raw.get("apiVersion") == "v1":
            ports.update(_ports(raw))
        elif kind == "ConfigMap" and raw.get("apiVersion") == "v1":
            config_map = read_config_map(_with_data(where, raw))
            config_maps[config_map.meta.key] = config_map
        elif kind == "Secret" and raw.get("apiVersion") == "v1":
            secret = _secret(where, raw)
            secrets[secret.meta.key] = secret
        elif group == GROUP and kind == "InngestApp":
            app = _read(where, raw, read_app(raw), AppSpec)
            if (app.spec.endpoint.service is None) == (app.spec.endpoint.url is None):
                raise ManifestError(f"{where}: spec.endpoint: exactly one of service and url must be set")
            _add(where, apps, app.meta.name, app)
        elif group == GROUP and kind == "Function":
            function = _read(where, raw, read_function(raw), FunctionSpec)
            _add(where, functions, function.meta.name, function)
        elif group == GROUP and kind == "Webhook":
            webhook = _read(where, raw, read_webhook(_placed(raw)), WebhookSpec)
            _check_webhook(where, webhook.spec)
            _add(where, webhooks, "/".join(webhook.meta.key), webhook)
        elif group == GROUP:
            passed_over.append(str(kind))
    return Manifests(
        tuple(apps.values()),
        tuple(functions.values()),
        ports,
        tuple(sorted(set(passed_over))),
        tuple(webhooks.values()),
        config_maps,
        secrets,
    )


def files(folder: Path) -> list[Path]:
    """The files that `load` reads.

    Raises:
        ManifestError: there is no such folder or file.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise ManifestError(f"{folder}: there is no such folder or file of manifests")
    return sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES and path.is_file())


def _objects(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in files(folder):
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ManifestError(f"{path}: larger than 4 MiB, which is no manifest")
            documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(f"{path}: cannot be read: {error}") from None
        except yaml.YAMLError as error:
            raise ManifestError(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
        for number, document in enumerate(_flat(documents), 1):
            if isinstance(document, dict):
                name = (document.get("metadata") or {}).get("name", f"document {number}")
                yield f"{path}: {document.get('kind', 'object')} {name}", document


def _flat(documents: Iterable[Any]) -> Iterator[Any]:
    """Documents, and what is in a `List`."""
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "List":
            yield from document.get("items") or ()
        else:
            yield document


def _ports(raw: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    name = read_meta(dict(raw)).name
    ports = (raw.get("spec") or {}).get("ports") or ()
    return {
        (name, str(port["name"])): int(port["port"]) for port in ports if "name" in port and "port" in port
    }


def _placed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The object with a namespace."""
    meta = dict(raw.get("metadata") or {})
    return {**raw, "metadata": meta | {"namespace": meta.get("namespace") or DEFAULT_NAMESPACE}}


def _with_data(where: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    """A ConfigMap or Secret whose data can be read, with a namespace."""
    for field in ("data", "stringData"):
        if not isinstance(raw.get(field) or {}, dict):
            raise ManifestError(f"{where}: {field}: must be an object of texts")
    return _placed(raw)


def _secret(where: str, raw: Mapping[str, Any]) -> SecretObject:
    """A Secret as an API server keeps it: what `stringData` has goes before `data`."""
    secret = read_secret(_with_data(where, raw))
    plain = {str(key): str(value).encode() for key, value in (raw.get("stringData") or {}).items()}
    return SecretObject(secret.meta, secret.data | plain)


def _check_webhook(where: str, spec: WebhookSpec) -> None:
    """The rules that the CustomResourceDefinition has beyond types."""
    if (spec.transform.script is None) == (spec.transform.config_map_ref is None):
        raise ManifestError(f"{where}: spec.transform: exactly one of script and configMapRef must be set")
    if spec.verify is None:
        return
    kinds = [field for field in msgspec.structs.fields(Verify) if field.name != "tolerance"]
    if sum(getattr(spec.verify, field.name) is not None for field in kinds) != 1:
        names = ", ".join(field.encode_name for field in kinds)
        raise ManifestError(f"{where}: spec.verify: exactly one of {names} must be set")


def _read(where: str, raw: Mapping[str, Any], read: Any, spec: type[msgspec.Struct]) -> Any:
    """The object, if it can be used; an API server would say the same of it."""
    if raw.get("apiVersion") != API_VERSION:
        raise ManifestError(f"{where}: apiVersion is {raw.get('apiVersion')!r}; write {API_VERSION}")
    if isinstance(read, Unreadable):
        raise ManifestError(f"{where}: {read.why}")
    unknown = next(_unknown(raw.get("spec") or {}, spec, "spec"), None)
    if unknown is not None:
        raise ManifestError(f"{where}: {unknown}")
    if not read.meta.name:
        raise ManifestError(f"{where}: metadata.name is missing")
    return read


def _unknown(value: Any, type_: Any, path: str) -> Iterator[str]:
    """Fields that no spec has. A misspelt option that is silently without effect is found too late."""
    structs = [
        each
        for each in (type_, *get_args(type_))
        if isinstance(each, type) and issubclass(each, msgspec.Struct)
    ]
    if isinstance(value, dict) and structs:
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(structs[0])}
        for key, item in value.items():
            if key not in fields:
                yield f"{path}.{key}: there is no such field; known are {', '.join(sorted(fields))}"
            else:
                yield from _unknown(item, fields[key], f"{path}.{key}")
    elif isinstance(value, list):
        for inner in get_args(type_):
            for part in (inner, *get_args(inner)):
                for index, item in enumerate(value):
                    yield from _unknown(item, part, f"{path}[{index}]")


def _add(where: str, known: dict[str, Any], name: str, read: Any) -> None:
    if name in known:
        raise ManifestError(f"{where}: there are two of this kind and name; a cluster would keep the last")
    known[name] = read


__all__ = ["DEFAULT_NAMESPACE", "ManifestError", "Manifests", "files", "load"]
