"""Watches: what is sent, from where, and how they end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import orjson
import pytest

from tests.kube.cluster import Cluster
from tests.kube.emulator import KubeEmulator
from tests.kube.errors import Obj
from tests.kube.fixtures import emulated
from tests.kube.samples import cake, crd

Events = Iterator[tuple[str, Obj]]


@contextmanager
def watching(cluster: Cluster, namespace: str, **params: str) -> Iterator[Events]:
    """The events of Cakes in a namespace, as (type, object)."""
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes"
    with cluster.http.stream("GET", path, params={"watch": "true"} | params) as response:
        assert response.status_code == 200
        yield ((event["type"], event["object"]) for event in map(orjson.loads, response.iter_lines()))


def short(event: tuple[str, Obj]) -> tuple[str, str]:
    """Type and name."""
    return event[0], event[1]["metadata"]["name"]


def version(cluster: Cluster, namespace: str) -> str:
    """The version of the whole now."""
    path = f"/apis/test.dev/v1/namespaces/{namespace}/cakes"
    found: str = cluster.request("GET", path).json()["metadata"]["resourceVersion"]
    return found


def test_changes_are_sent_as_they_happen(cluster: Cluster, namespace: str) -> None:
    """Added, modified, deleted, each with the object as it is then, and with its version."""
    with watching(cluster, namespace, resourceVersion=version(cluster, namespace)) as events:
        made = cluster.create(cake(namespace=namespace))
        assert next(events) == ("ADDED", made)
        changed = cluster.patch("cakes", namespace, "a", {"spec": {"layers": 2}})
        assert next(events) == ("MODIFIED", changed)
        cluster.delete("cakes", namespace, "a")
        kind, last = next(events)
        assert kind == "DELETED"
        assert last["spec"] == changed["spec"]
        assert int(last["metadata"]["resourceVersion"]) > int(changed["metadata"]["resourceVersion"])


def test_a_watch_begins_after_the_version_it_names(cluster: Cluster, namespace: str) -> None:
    """What happened since is sent first; without a version, everything that is there."""
    cluster.create(cake("a", namespace))
    since = version(cluster, namespace)
    cluster.create(cake("b", namespace))
    cluster.delete("cakes", namespace, "a")
    with watching(cluster, namespace, resourceVersion=since) as events:
        assert [short(next(events)) for _ in range(2)] == [("ADDED", "b"), ("DELETED", "a")]
    for anything in ({}, {"resourceVersion": "0"}):
        with watching(cluster, namespace, **anything) as events:
            assert short(next(events)) == ("ADDED", "b")


def test_other_namespaces_and_kinds_are_not_seen(cluster: Cluster, namespace: str) -> None:
    """A watch in all namespaces sees them all."""
    other = cluster.create_namespace()
    since = version(cluster, namespace)
    cluster.create(cake("theirs", other))
    cluster.create(cake("mine", namespace))
    with watching(cluster, namespace, resourceVersion=since) as events:
        assert short(next(events)) == ("ADDED", "mine")
    path = "/apis/test.dev/v1/cakes"
    with cluster.http.stream("GET", path, params={"watch": "1", "resourceVersion": since}) as response:
        lines = response.iter_lines()
        names = [orjson.loads(next(lines))["object"]["metadata"]["name"] for _ in range(2)]
    assert names == ["theirs", "mine"]


@pytest.mark.parametrize(
    ("selector", "inside", "outside"),
    [
        (
            {"labelSelector": "tier=high"},
            {"metadata": {"labels": {"tier": "high"}}},
            {"metadata": {"labels": None}},
        ),
        ({"fieldSelector": "spec.flavour=nut"}, {"spec": {"flavour": "nut"}}, {"spec": {"flavour": "plum"}}),
    ],
)
def test_what_begins_or_ceases_to_match_appears_or_goes(
    cluster: Cluster, namespace: str, selector: dict[str, str], inside: Obj, outside: Obj
) -> None:
    """As ADDED and DELETED, though the object is there all the time."""
    since = version(cluster, namespace)
    cluster.create(cake(namespace=namespace))
    with watching(cluster, namespace, resourceVersion=since, **selector) as events:
        entered = cluster.patch("cakes", namespace, "a", inside)
        assert next(events) == ("ADDED", entered)
        stayed = cluster.patch("cakes", namespace, "a", {"spec": {"layers": 2}})
        assert next(events) == ("MODIFIED", stayed)
        left = cluster.patch("cakes", namespace, "a", outside)
        kind, last = next(events)
        assert kind == "DELETED"
        assert last["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
        assert last["spec"] == stayed["spec"]
        cluster.delete("cakes", namespace, "a")
        cluster.create(cake("b", namespace, **inside.get("spec", {}), metadata=inside.get("metadata")))
        assert short(next(events)) == ("ADDED", "b")


def test_a_watch_ends_at_its_timeout(cluster: Cluster, namespace: str) -> None:
    """Cleanly, so that the client goes on from where it was."""
    cluster.create(cake(namespace=namespace))
    with watching(cluster, namespace, timeoutSeconds="1") as events:
        assert [short(event) for event in events if event[0] != "BOOKMARK"] == [("ADDED", "a")]


def test_one_object_can_be_watched(cluster: Cluster, namespace: str) -> None:
    """By its name in a field selector."""
    with watching(cluster, namespace, fieldSelector="metadata.name=b", resourceVersion="0") as events:
        cluster.create(cake("a", namespace))
        cluster.create(cake("b", namespace))
        assert short(next(events)) == ("ADDED", "b")


def test_a_first_list_can_be_streamed(cluster: Cluster, namespace: str) -> None:
    """A bookmark with an annotation ends it."""
    cluster.create(cake(namespace=namespace))
    params = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    with watching(cluster, namespace, **params) as events:
        assert short(next(events)) == ("ADDED", "a")
        kind, mark = next(events)
        assert kind == "BOOKMARK"
        assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert mark["kind"] == "Cake"


# What only the emulator can be told to do


@pytest.fixture
def bakery(emulator: KubeEmulator) -> Iterator[Cluster]:
    """The emulator as a cluster with Cakes."""
    emulator.install_crds([crd()])
    made = emulated(emulator)
    yield made
    made.close()


def error(event: tuple[str, Obj]) -> tuple[str, Any, Any]:
    """Type, code and reason."""
    return event[0], event[1].get("code"), event[1].get("reason")


def test_a_version_that_is_no_longer_kept_is_gone(emulator: KubeEmulator, bakery: Cluster) -> None:
    """The watch answers 200 with an ERROR event of 410, and ends."""
    emulator.set_window(2)
    since = version(bakery, "default")
    for name in "ab":
        emulator.put(cake(name))
    with watching(bakery, "default", resourceVersion=since) as events:
        assert [short(next(events)) for _ in range(2)] == [("ADDED", "a"), ("ADDED", "b")]
    emulator.put(cake("c"))
    with watching(bakery, "default", resourceVersion=since) as events:
        assert [error(event) for event in events] == [("ERROR", 410, "Expired")]


def test_compaction_makes_all_versions_gone(emulator: KubeEmulator, bakery: Cluster) -> None:
    """For watches that begin and lists that go on; watches that are open stay."""
    for name in "abc":
        emulator.put(cake(name))
    path = "/apis/test.dev/v1/cakes"
    page = bakery.request("GET", path, params={"limit": "1"}).json()["metadata"]
    with watching(bakery, "default", resourceVersion=page["resourceVersion"]) as events:
        emulator.compact()
        emulator.put(cake("d"))
        assert short(next(events)) == ("ADDED", "d")
    with watching(bakery, "default", resourceVersion=page["resourceVersion"]) as events:
        assert [error(event) for event in events] == [("ERROR", 410, "Expired")]
    answer = bakery.request("GET", path, params={"limit": "1", "continue": page["continue"]})
    assert (answer.status_code, answer.json()["reason"]) == (410, "Expired")
    with watching(bakery, "default", resourceVersion=version(bakery, "default")) as events:
        emulator.put(cake("e"))
        assert short(next(events)) == ("ADDED", "e")


def test_open_watches_can_expire(emulator: KubeEmulator, bakery: Cluster) -> None:
    """With an ERROR event, after what was sent before."""
    with watching(bakery, "default") as events:
        emulator.put(cake())
        assert short(next(events)) == ("ADDED", "a")
        emulator.expire_watches()
        assert [error(event) for event in events] == [("ERROR", 410, "Expired")]
    emulator.until(lambda: emulator.watching == 0)


def test_connections_can_be_cut(emulator: KubeEmulator, bakery: Cluster) -> None:
    """In the middle of a stream."""
    with watching(bakery, "default") as events:
        assert emulator.watching == 1
        emulator.drop_watches()
        with pytest.raises(httpx.TransportError):
            next(events)
    emulator.until(lambda: emulator.watching == 0)


def test_a_client_that_leaves_ends_its_watch(emulator: KubeEmulator, bakery: Cluster) -> None:
    """At once, not at the next event."""
    with watching(bakery, "default"):
        assert emulator.watching == 1
    emulator.until(lambda: emulator.watching == 0)


def test_bookmarks_go_to_those_who_allow_them(emulator: KubeEmulator, bakery: Cluster) -> None:
    """They tell the version of the whole, so that a quiet watch does not grow too old."""
    with (
        watching(bakery, "default", allowWatchBookmarks="true") as with_marks,
        watching(bakery, "default") as without,
    ):
        emulator.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}})
        emulator.send_bookmarks()
        emulator.put(cake())
        kind, mark = next(with_marks)
        assert kind == "BOOKMARK"
        assert mark["metadata"] == {"resourceVersion": str(int(version(bakery, "default")) - 1)}
        assert short(next(with_marks)) == short(next(without)) == ("ADDED", "a")


def test_a_version_of_the_future_is_refused(emulator: KubeEmulator, bakery: Cluster) -> None:
    """As a server that has lost its data would be asked for: 504, to be tried again."""
    path = "/apis/test.dev/v1/cakes"
    for params in ({"resourceVersion": "999999"}, {"resourceVersion": "999999", "watch": "true"}):
        answer = bakery.request("GET", path, params=params)
        assert (answer.status_code, answer.json()["reason"]) == (504, "Timeout")


def test_a_restart_keeps_port_objects_and_versions(emulator: KubeEmulator, bakery: Cluster) -> None:
    """Meanwhile connections are refused, and watches are cut."""
    emulator.put(cake())
    since = version(bakery, "default")
    url = emulator.url
    with watching(bakery, "default", resourceVersion=since) as events:
        emulator.stop()
        with pytest.raises(httpx.TransportError):
            next(events)
    with pytest.raises(httpx.ConnectError):
        bakery.request("GET", "/version")
    emulator.put(cake("b"))
    emulator.start()
    assert emulator.url == url
    with watching(bakery, "default", resourceVersion=since) as events:
        assert short(next(events)) == ("ADDED", "b")


def test_requests_can_be_refused(emulator: KubeEmulator, bakery: Cluster) -> None:
    """So many times, those that match; with the delay to keep."""
    emulator.refuse(
        429, times=2, retry_after_s=1, matches=lambda asked: (asked.resource, asked.verb) == ("cakes", "list")
    )
    path = "/apis/test.dev/v1/cakes"
    assert bakery.request("GET", "/api/v1/pods").status_code == 200
    answers = [bakery.request("GET", path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "1"
    assert answers[0].json()["reason"] == "TooManyRequests"
    emulator.refuse(503, times=99)
    assert bakery.request("GET", "/apis").status_code == 503
    emulator.relent()
    assert bakery.request("GET", "/apis").status_code == 200


def test_a_thousand_objects(emulator: KubeEmulator, bakery: Cluster) -> None:
    """Each is patched and listed, and a watch that begins with all of them sees every change."""
    names = [f"cake-{number:04}" for number in range(1000)]
    for name in names:
        emulator.put(cake(name))
    with watching(bakery, "default") as events:
        for name in names:
            bakery.patch("cakes", "default", name, {"spec": {"layers": 2}})
        seen = [short(next(events)) for _ in range(2 * len(names))]
    assert seen == [("ADDED", name) for name in names] + [("MODIFIED", name) for name in names]
    listed = bakery.list("cakes", "default")
    assert [item["spec"]["layers"] for item in listed] == [2] * len(names)
