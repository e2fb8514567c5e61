"""What outlives the operator of what it asked."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_operator.asking import MAX_REQUESTED
from innkeeper_operator.memory import MAX_ADDRESSES, MAX_REVISIONS, read_memory, write_memory
from innkeeper_operator.views import SyncMemory
from tests.crds.schemas import load_crds
from tests.operator.timeline import START_MS, bare, pods

MEMORY = SyncMemory(
    time_ms=START_MS,
    config_hash="sha256:ab",
    registry="reg-1",
    revisions=("r1", "r2"),
    generation=3,
    keys="0123",
    requested="now",
)


def test_the_status_shows_live_revisions_first_and_keeps_those_that_may_come_back() -> None:
    written = write_memory(MEMORY, pods(r1=4, r3=1))
    assert written["time"] == "2027-01-15T08:00:00Z"
    assert written["revisions"] == [
        {"name": "r1", "ready": 4, "synced": True},
        {"name": "r3", "ready": 1, "synced": False},
        {"name": "r2", "ready": 0, "synced": True},
    ]


def test_what_is_written_is_read_again() -> None:
    assert read_memory({"sync": write_memory(MEMORY, pods(r1=4, r2=1))}) == MEMORY
    assert read_memory({"sync": write_memory(SyncMemory(), pods())}) == SyncMemory()
    addresses = SyncMemory(addresses=("192.0.2.1:80",), time_ms=1_000)
    assert read_memory({"sync": write_memory(addresses, bare("192.0.2.1:80"))}) == addresses


def test_pods_without_a_revision_are_a_revision() -> None:
    memory = SyncMemory(config_hash="x", revisions=("",))
    assert read_memory({"sync": write_memory(memory, pods(**{"": 2}))}) == memory


def test_the_status_is_bounded() -> None:
    many = SyncMemory(
        revisions=tuple(f"r{n}" for n in range(30)), addresses=tuple(f"a{n}:80" for n in range(300))
    )
    written = write_memory(many, pods(**{f"live{n}": 1 for n in range(20)}))
    assert len(written["revisions"]) == 10
    assert len(written["addresses"]) == 100


@pytest.mark.parametrize("status", [{}, {"sync": None}, {"sync": []}, {"sync": "yes"}])
def test_an_app_that_was_never_asked_has_an_empty_memory(status: dict[str, Any]) -> None:
    assert read_memory(status) == SyncMemory()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["time", "configHash", "registry", "revisions", "addresses", "generation", "keys", "requested"]
        ),
        JSON | st.lists(st.dictionaries(st.sampled_from(["name", "ready", "synced"]), JSON), max_size=3),
    )
)
def test_a_status_that_others_wrote_is_read_as_far_as_it_can_be(sync: dict[str, Any]) -> None:
    memory = read_memory({"sync": sync})
    assert memory.time_ms >= 0
    assert read_memory({"sync": write_memory(memory, pods())}).config_hash == memory.config_hash


def test_the_schema_keeps_all_that_is_written() -> None:
    """An API server takes away what the schema does not name, and the app would be asked again and again."""
    crd = load_crds()["InngestApp"]
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    sync = schema["properties"]["status"]["properties"]["sync"]["properties"]
    written = write_memory(msgspec.structs.replace(MEMORY, addresses=("192.0.2.1:80",)), pods(r1=1))
    assert written.keys() == sync.keys()
    assert all(
        each.keys() == sync["revisions"]["items"]["properties"].keys() for each in written["revisions"]
    )
    assert sync["revisions"]["maxItems"] == MAX_REVISIONS
    assert sync["addresses"]["maxItems"] == MAX_ADDRESSES
    assert sync["requested"]["maxLength"] >= MAX_REQUESTED
