"""Where an app is served: from Services, slices and pods to revisions and addresses."""

from typing import Any

import msgspec
import pytest

from innkeeper_operator.endpoints import live, service_url
from innkeeper_operator.objects import (
    AppObject,
    Meta,
    PodObject,
    ServiceObject,
    ServicePort,
    SliceEndpoint,
    SliceObject,
    read_app,
    read_service,
)
from innkeeper_operator.views import Live, Revision


def app_at(**endpoint: Any) -> AppObject:
    """An InngestApp in namespace prod with that endpoint."""
    made = read_app({"metadata": {"name": "shop", "namespace": "prod"}, "spec": {"endpoint": endpoint}})
    assert isinstance(made, AppObject)
    return made


def by_service(port: int | str = 3000, **more: str) -> AppObject:
    """An InngestApp that is served through the Service `shop`."""
    return app_at(service={"name": "shop", "port": port, **more})


def service(*ports: tuple[str, int]) -> ServiceObject:
    """The Service `shop`."""
    return ServiceObject(Meta(name="shop", namespace="prod"), tuple(ServicePort(*port) for port in ports))


def endpoint(address: str, pod: str = "", *, ready: bool = True, terminating: bool = False) -> SliceEndpoint:
    """One endpoint of a slice."""
    return SliceEndpoint(address, ready, terminating, pod)


def slice_of(
    *endpoints: SliceEndpoint, kind: str = "IPv4", ports: dict[str, int] | None = None
) -> SliceObject:
    """A slice of the Service `shop`, whose only port is 8080 on the pods."""
    return SliceObject(Meta(name="s", namespace="prod"), "shop", kind, ports or {"": 8080}, endpoints)


def pods(**revisions: str) -> dict[str, PodObject]:
    """Pods by name, each of a ReplicaSet's revision."""
    return {
        name: PodObject(Meta(name=name, namespace="prod", labels={"pod-template-hash": revision}))
        for name, revision in revisions.items()
    }


SERVICE = service(("", 3000))


def seen(*slices: SliceObject, known: dict[str, PodObject] | None = None) -> Live:
    """The endpoint of an app behind these slices."""
    return live(by_service(), SERVICE, slices, known or {})


@pytest.mark.parametrize(
    ("app", "there", "url"),
    [
        (by_service(), SERVICE, "http://shop.prod.svc:3000/api/inngest"),
        (by_service("web"), service(("web", 80)), "http://shop.prod.svc/api/inngest"),
        (by_service(443, scheme="https"), service(("tls", 443)), "https://shop.prod.svc/api/inngest"),
        (by_service(443), service(("", 443)), "http://shop.prod.svc:443/api/inngest"),
        (by_service("3000"), SERVICE, "http://shop.prod.svc:3000/api/inngest"),
        (by_service("3000"), service(("3000", 9)), "http://shop.prod.svc:9/api/inngest"),
        (by_service(path="/fns"), SERVICE, "http://shop.prod.svc:3000/fns"),
        (by_service(), None, "http://shop.prod.svc:3000/api/inngest"),
        (by_service("web"), None, ""),
        (app_at(url="https://shop.example:443/api/inngest"), None, "https://shop.example/api/inngest"),
    ],
)
def test_the_url_names_the_service_and_the_port_that_is_not_the_schemes(
    app: AppObject, there: ServiceObject | None, url: str
) -> None:
    assert service_url(app, there) == url


def test_the_url_ends_with_the_clusters_domain_where_one_is_set() -> None:
    found = live(by_service(), SERVICE, [], {}, "cluster.local")
    assert found.url == "http://shop.prod.svc.cluster.local:3000/api/inngest"


def test_nothing_is_known_of_what_is_behind_a_url() -> None:
    app = app_at(url="https://shop.example/api/inngest")
    assert live(app, None, [], {}) == Live(
        url="https://shop.example/api/inngest", external=True, public_only=True
    )


@pytest.mark.parametrize("url", ["", "http://shop:99999/api/inngest", "http://[::1/api/inngest"])
def test_a_url_that_cannot_be_one_is_said(url: str) -> None:
    found = live(app_at(url=url), None, [], {})
    assert (found.url, found.reason) == ("", "InvalidUrl")
    assert repr(url) in found.message
    assert service_url(app_at(url=url), None) == ""


def test_a_service_that_is_not_there_is_said() -> None:
    found = live(by_service(), None, [], {})
    assert (found.reason, found.message) == ("NoService", "there is no Service shop in namespace prod")


def test_a_port_that_the_service_has_not_is_said_with_those_that_it_has() -> None:
    found = live(by_service("grpc"), service(("web", 80), ("", 9090)), [], {})
    assert (found.url, found.reason) == ("", "NoPort")
    assert found.message == "the Service shop has no port grpc: it has web (80), 9090"
    assert live(by_service(3000), service(), [], {}).message.endswith("it has none")


def test_no_ready_endpoint_is_said_and_the_url_stays() -> None:
    found = seen(slice_of(endpoint("10.0.0.1", "a", ready=False)), known=pods(a="r1"))
    assert (found.url, found.reason) == ("http://shop.prod.svc:3000/api/inngest", "NoEndpoints")
    assert "has no ready endpoint for its port 3000" in found.message


def test_ready_pods_are_counted_by_revision_over_all_slices() -> None:
    first = slice_of(
        endpoint("10.0.0.3", "a"),
        endpoint("10.0.0.2", "b"),
        endpoint("10.0.0.5", "c", ready=False),
        endpoint("10.0.0.6", "d", terminating=True),
    )
    second = slice_of(endpoint("10.0.1.1", "e"), endpoint("10.0.1.2", "f"))
    known = pods(a="old", b="old", c="old", d="old", e="old", f="new")
    assert seen(first, second, known=known).revisions == (
        Revision("old", 3, "10.0.0.2:8080"),
        Revision("new", 1, "10.0.1.2:8080"),
    )


def test_a_pod_with_two_address_families_counts_once() -> None:
    four = slice_of(endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b"))
    six = slice_of(endpoint("fd00::1", "a"), endpoint("fd00::2", "b"), kind="IPv6")
    assert seen(four, six, known=pods(a="r", b="r")).revisions == (Revision("r", 2, "10.0.0.1:8080"),)
    assert seen(six, known=pods(a="r", b="r")).revisions == (Revision("r", 2, "[fd00::1]:8080"),)


def test_names_in_slices_are_never_dialled() -> None:
    names = slice_of(endpoint("db.internal.example"), kind="FQDN")
    assert seen(names).reason == "NoEndpoints"


def test_the_port_of_a_pod_is_found_by_the_name_of_the_services_port() -> None:
    there = service(("web", 80), ("metrics", 9090))
    piece = slice_of(endpoint("10.0.0.1", "a"), ports={"web": 3001, "metrics": 9091})
    other = slice_of(endpoint("10.0.0.2", "b"), ports={"metrics": 9091})
    for port in ("web", 80):
        found = live(by_service(port), there, [piece, other], pods(a="r", b="r"))
        assert found.revisions == (Revision("r", 1, "10.0.0.1:3001"),)


def test_the_revision_is_that_of_the_workload_and_empty_for_a_pod_of_its_own() -> None:
    known = {
        "s-0": PodObject(Meta(name="s-0", labels={"controller-revision-hash": "s-7d9"})),
        "bare": PodObject(Meta(name="bare")),
    }
    found = seen(slice_of(endpoint("10.0.0.1", "s-0"), endpoint("10.0.0.2", "bare")), known=known)
    assert {revision.name for revision in found.revisions} == {"", "s-7d9"}


def test_a_pod_that_is_not_known_yet_does_not_count() -> None:
    piece = slice_of(endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b"))
    assert seen(piece, known=pods(a="r")).revisions == (Revision("r", 1, "10.0.0.1:8080"),)
    unknown = seen(piece)
    assert (unknown.reason, unknown.message) == (
        "NoEndpoints",
        "the ready pods of the Service shop are not known yet",
    )


def test_endpoints_without_pods_are_addresses() -> None:
    found = seen(slice_of(endpoint("192.0.2.8"), endpoint("192.0.2.7")), slice_of(endpoint("192.0.2.7")))
    assert (found.addresses, found.revisions) == (("192.0.2.7:8080", "192.0.2.8:8080"), ())


def test_a_service_that_is_another_name_for_a_host_is_a_persons_url() -> None:
    """Whoever may write Services could reach any address by it."""
    other_name = msgspec.structs.replace(service(("http", 3000)), external=True)
    found = live(by_service(), other_name, [], {})
    assert (found.public_only, found.reason) == (True, "NoEndpoints")
    assert "ExternalName" in found.message
    raw = {"metadata": {"name": "shop"}, "spec": {"type": "ExternalName", "externalName": "redis.other.svc"}}
    assert read_service(raw).external
    assert not live(by_service(), service(("http", 3000)), [], {}).public_only
