"""How to reach an API server: what a kubeconfig says."""

import base64
import ssl
import tempfile

import msgspec

from tests.kube.errors import Obj


class Connection(msgspec.Struct, kw_only=True):
    """Where an API server is and who one is there."""

    server: str
    token: str = ""
    tls: ssl.SSLContext | None = None
    config: Obj = msgspec.field(default_factory=dict)
    """The kubeconfig that says the same."""


def connection_from(config: Obj) -> Connection:
    """The connection of a kubeconfig's current context.

    Raises ValueError for what is not supported here: users that run a program to log in, references to other files.
    """
    name = config.get("current-context")
    context = _entry(config, "contexts", name)["context"]
    cluster = _entry(config, "clusters", context["cluster"])["cluster"]
    user = _entry(config, "users", context["user"])["user"]
    for field in ("exec", "auth-provider", "tokenFile", "username"):
        if field in user:
            raise ValueError(
                f"kubeconfig: a user with {field!r} is not supported here: use a token or client-*-data"
            )
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    server = cluster["server"]
    tls = _tls(cluster, user) if server.startswith("https:") else None
    return Connection(server=server, token=user.get("token", ""), tls=tls, config=config)


def _entry(config: Obj, field: str, name: object) -> Obj:
    for entry in config.get(field) or []:
        if entry.get("name") == name:
            return entry  # type: ignore[no-any-return]
    raise ValueError(f"kubeconfig: there is no {name!r} in {field}")


def _tls(cluster: Obj, user: Obj) -> ssl.SSLContext:
    tls = ssl.create_default_context(
        cafile=cluster.get("certificate-authority"),
        cadata=_decoded(cluster.get("certificate-authority-data")) or None,
    )
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate, key = user.get("client-certificate"), user.get("client-key")
    if certificate:
        tls.load_cert_chain(certificate, key)
    elif "client-certificate-data" in user:
        # Python takes certificates from files alone.
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as chain:
            chain.write(_decoded(user["client-certificate-data"]) + "\n" + _decoded(user["client-key-data"]))
            chain.flush()
            tls.load_cert_chain(chain.name)
    return tls


def _decoded(text: str | None) -> str:
    return base64.b64decode(text).decode() if text else ""
