"""HTTP sessions for watches, with the credentials of the official client.

kopf and the watches of named Secrets stream through aiohttp. The official client's configuration stays the one place
where credentials are found and refreshed.
"""

import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Final

import aiohttp
from kubernetes.client import Configuration
from kubernetes.client.rest import should_bypass_proxies

METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
METADATA: Final = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
"""What to accept for objects without anything but their metadata; a server that cannot do that sends them whole."""


def open_session(
    configuration: Configuration,
    *,
    light: frozenset[str] = frozenset(),
    on_list: Callable[[str], None] = lambda _path: None,
) -> aiohttp.ClientSession:
    """A session for the running event loop.

    `light`: paths of collections of which only the metadata is wanted. `on_list` is told the path of every collection
    that was listed, whatever came of it.
    """
    traces = aiohttp.TraceConfig()

    async def starting(
        _session: aiohttp.ClientSession,
        context: SimpleNamespace,
        params: aiohttp.TraceRequestStartParams,
    ) -> None:
        # A redirect gets no second chance: the path that was asked for is what counts.
        context.path = params.url.path
        context.watch = "watch" in params.url.query
        token = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            params.headers["Authorization"] = token
        if params.url.path in light:
            params.headers["Accept"] = METADATA if context.watch else METADATA_LIST

    async def ended(
        _session: aiohttp.ClientSession,
        context: SimpleNamespace,
        params: aiohttp.TraceRequestEndParams,
    ) -> None:
        if params.method == "GET" and not context.watch:
            on_list(context.path)

    traces.on_request_start.append(starting)
    traces.on_request_end.append(ended)
    proxy = configuration.proxy
    if proxy and should_bypass_proxies(configuration.host, configuration.no_proxy or ""):
        proxy = None
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=_tls(configuration)),
        proxy=proxy,
        trace_configs=[traces],
        headers={"User-Agent": "innkeeper-operator"},
    )


def _tls(configuration: Configuration) -> ssl.SSLContext:
    data: str | bytes | None = configuration.ca_cert_data
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=data)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if configuration.assert_hostname is False or not configuration.verify_ssl:
        context.check_hostname = False
    if not configuration.verify_ssl:
        context.verify_mode = ssl.CERT_NONE
    return context
