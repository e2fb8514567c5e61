"""What counts as an event, and how it is stored."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_apps.wire.canonical import canonical_json
from innkeeper_engine.model.clock import is_ulid, ulid_ms
from innkeeper_gateway.ingest import IngestError, Seed, event_ids, parse_events, read_seed
from innkeeper_gateway.settings import Limits

NOW_MS = 1_795_343_330_026
SEED = Seed(NOW_MS, b"0123456789")


def take(body: object, limits: Limits | None = None, content_type: str = "application/json") -> list[Any]:
    """The stored form of the events in `body` (bytes, or what is dumped as JSON)."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return [
        (event_id, name, orjson.loads(stored))
        for event_id, name, stored in parse_events(raw, content_type, limits or Limits(), NOW_MS, SEED)
    ]


def refusal(body: object, limits: Limits | None = None) -> IngestError:
    with pytest.raises(IngestError) as caught:
        take(body, limits)
    return caught.value


def test_an_event_gets_what_it_lacks() -> None:
    ((event_id, name, event),) = take({"name": "shop/order.placed"})
    assert name == "shop/order.placed"
    assert is_ulid(event_id)
    assert ulid_ms(event_id) == NOW_MS
    assert event == {"data": {}, "id": event_id, "name": name, "ts": NOW_MS, "user": {}}


def test_the_senders_fields_are_kept_and_others_dropped() -> None:
    sent = {
        "name": "a",
        "data": {"n": [1, {"x": None}]},
        "user": {"external_id": "u"},
        "id": "mine",
        "ts": 1_700_000_000_000,
        "v": "2024-05-15.1",
        "meta": {"sessions": {"a": "b"}},
    }
    ((event_id, _, event),) = take({**sent, "other": 1, "traceparent": "x"})
    assert event == sent
    assert event_id != "mine"


def test_nulls_and_empty_ids_count_as_absent() -> None:
    fields = ("data", "user", "ts", "v", "meta")
    ((event_id, _, event),) = take({"name": "a", "id": "", **dict.fromkeys(fields)})
    assert event == {"data": {}, "id": event_id, "name": "a", "ts": NOW_MS, "user": {}}


def test_an_event_is_stored_in_canonical_form() -> None:
    body = b'{ "ts": 1700000000000.0, "name":"\\u00fc", "data": {"b": 1.0, "a": 1e3, "\xc3\xbc": "\\ud83c\\udfe8"} }'
    ((event_id, name, stored),) = parse_events(body, "", Limits(), NOW_MS, SEED)
    assert name == "ü"
    assert stored == canonical_json(stored)
    expected = (
        f'{{"data":{{"a":1000,"b":1,"ü":"🏨"}},"id":"{event_id}","name":"ü","ts":1700000000000,"user":{{}}}}'
    )
    assert stored.decode() == expected


def test_the_engines_own_field_is_taken_out_of_the_data() -> None:
    ((_, _, event),) = take({"name": "a", "data": {"_inngest": {"fn_id": "x"}, "b": 1, "c": {"_inngest": 1}}})
    assert event["data"] == {"b": 1, "c": {"_inngest": 1}}


def test_an_array_gives_its_events_in_order_with_rising_ids() -> None:
    taken = take([{"name": f"e{n}"} for n in range(3000)])
    assert [name for _, name, _ in taken] == [f"e{n}" for n in range(3000)]
    ids = [event_id for event_id, _, _ in taken]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("body", [b"", b"  \n", b"[]", b" [ ] "])
def test_nothing_sent_is_no_error(body: bytes) -> None:
    assert take(body) == []


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_the_content_type_does_not_matter(content_type: str) -> None:
    assert len(take(b'{"name":"a"}', content_type=content_type)) == 1


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"data": {}}, "event name is empty"),
        ({"name": ""}, "event name is empty"),
        ({"name": None}, "event name is empty"),
        ({"name": 3}, "event name is a number: it must be a text"),
        ({"name": "inngest/foo"}, "event name is reserved for internal use: inngest/foo"),
        ({"name": "InnGest/foo"}, "event name is reserved for internal use: InnGest/foo"),
        ({"name": "a\nb"}, "event name holds a control character, such as a line break"),
        ({"name": "a" * 513}, "event name has 513 bytes: at most 512 are allowed"),
        ({"name": "ü" * 257}, "event name has 514 bytes: at most 512 are allowed"),
        ({"name": "a", "data": "text"}, "event data is a text: it must be an object"),
        ({"name": "a", "data": []}, "event data is an array: it must be an object"),
        ({"name": "a", "user": 1}, "event user is a number: it must be an object"),
        ({"name": "a", "meta": "x"}, "event meta is a text: it must be an object"),
        ({"name": "a", "id": 7}, "event id is a number: it must be a text"),
        ({"name": "a", "v": True}, "event v is true: it must be a text"),
        ({"name": "a", "ts": 1}, "timestamp is before Jan 1, 1980"),
        ({"name": "a", "ts": -1}, "timestamp is before Jan 1, 1980"),
        ({"name": "a", "ts": 4_102_444_800_001}, "timestamp is after Jan 1, 2100"),
        (
            {"name": "a", "ts": "now"},
            "event ts is a text: it must be a whole number of milliseconds since 1970",
        ),
        (
            {"name": "a", "ts": 1.7e12 + 0.5},
            "event ts is a number: it must be a whole number of milliseconds since 1970",
        ),
        (
            {"name": "a", "ts": False},
            "event ts is false: it must be a whole number of milliseconds since 1970",
        ),
    ],
)
def test_a_bad_event_is_refused_in_words_alone_and_by_its_place_in_an_array(
    event: dict[str, Any], message: str
) -> None:
    alone = refusal(event)
    assert (alone.message, alone.status, alone.index) == (message, 400, None)
    among = refusal([{"name": "good"}, event, {"name": "good"}])
    assert (among.message, among.status, among.index) == (f"events[1]: {message}", 400, 1)


@pytest.mark.parametrize("name", ["a" * 512, "ü" * 256, " leading", "inngest", "*", "a/b.c d"])
def test_names_are_taken_as_they_are(name: str) -> None:
    assert take({"name": name})[0][1] == name


@pytest.mark.parametrize(
    "body", [b'"hi"', b"1", b"null", b"{bad", b"name=x&data=1", b"\xff\xfe", b'{"name":"a"']
)
def test_what_is_no_event_is_refused(body: bytes) -> None:
    message = refusal(body).message
    assert message.startswith("Request body must contain an event object or an array of event objects")


def test_an_entry_of_an_array_that_is_no_object_is_named() -> None:
    error = refusal([{"name": "a"}, "x"])
    assert error.index == 1
    assert error.message.endswith("this is a text")


def test_an_event_over_the_size_is_refused_with_both_sizes() -> None:
    error = refusal({"name": "a", "data": {"x": "y" * 2000}}, Limits(event_bytes=1000))
    size = len(
        orjson.dumps({"data": {"x": "y" * 2000}, "id": "0" * 26, "name": "a", "ts": NOW_MS, "user": {}})
    )
    assert error.message == (
        f"Event is over the max size: Max 1000 bytes / Size {size} bytes "
        "(INNKEEPER_MAX_EVENT_BYTES of the gateway, 3145728 at most)"
    )


def test_more_events_than_allowed_are_refused() -> None:
    assert len(take([{"name": "a"}] * 5, Limits(events=5))) == 5
    assert (
        refusal([{"name": "a"}] * 6, Limits(events=5)).message
        == "6 events in one request: at most 5 are allowed"
    )


def test_lone_surrogates_are_kept_in_data_and_refused_where_text_is_compared() -> None:
    ((_, _, stored),) = parse_events(b'{"name":"a","data":{"x":"\\ud800"}}', "", Limits(), NOW_MS, SEED)
    assert b'"x":"\\ud800"' in stored
    for field in ("name", "id", "v"):
        body = json.dumps({"name": "a", field: "x\ud800"}).encode()
        assert refusal(body).message == f"event {field} holds half a character (a lone surrogate)"


def test_numbers_of_every_size_get_through() -> None:
    digits = b"1" * 5000
    body = b'{"name":"a","data":{"big":%b,"huge":%b,"nan":NaN,"out":1e999}}' % (b"9" * 30, digits)
    ((_, _, stored),) = parse_events(body, "", Limits(), NOW_MS, SEED)
    assert b'"big":%b,' % (b"9" * 30) in stored
    assert b'"huge":%b,"nan":null,"out":null' % digits in stored


def test_nesting_without_end_is_refused() -> None:
    body = b'{"name":"a","data":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    assert "nested too deeply" in refusal(body).message


def test_ids_follow_the_senders_seed() -> None:
    """Recorded from Inngest's own server."""
    seed = read_seed("1743130137367,eii2YKXRVTJPuA==")
    assert seed is not None
    assert list(event_ids(seed, 2)) == ["01JQDAE4RQF8MBCR55T5AK4KXS", "01JQDAE4RQF8MBCR55T5AK4KXT"]


def test_counting_up_a_seed_wraps_inside_its_last_four_bytes() -> None:
    ids = list(event_ids(Seed(NOW_MS, b"\0" * 6 + b"\xff\xff\xff\xfe"), 3))
    assert [each[-7:] for each in ids] == ["3ZZZZZZ", "0000000", "0000001"]
    assert len({each[:19] for each in ids}) == 1


@given(entropy=st.binary(min_size=10, max_size=10), count=st.integers(1, 3000))
def test_ids_of_one_seed_are_distinct_ulids_of_its_time(entropy: bytes, count: int) -> None:
    ids = list(event_ids(Seed(NOW_MS, entropy), count))
    assert len(set(ids)) == count
    assert is_ulid(ids[-1])
    assert ulid_ms(ids[-1]) == NOW_MS


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "x",
        "1743130137367",
        "1743130137367,",
        "1743130137367,AAAA",
        "0,eii2YKXRVTJPuA==",
        ",eii2YKXRVTJPuA==",
        "99999999999999,eii2YKXRVTJPuA==",
        "-1743130137367,eii2YKXRVTJPuA==",
        "²,AAAAAAAAAAAAAA==",
    ],
)
def test_a_seed_that_cannot_be_read_is_none(header: str | None) -> None:
    assert read_seed(header) is None


def test_padding_and_spaces_of_a_seed_do_not_matter() -> None:
    assert read_seed(" 1743130137367 , eii2YKXRVTJPuA ") == read_seed("1743130137367,eii2YKXRVTJPuA==")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(["name", "data", "user", "id", "ts", "v", "meta", "other"])
eventish = st.dictionaries(fields, json_values | st.just("a/b") | st.just({"_inngest": 1}), max_size=8)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@given(
    body=st.binary(max_size=200)
    | st.one_of(eventish, st.lists(eventish, max_size=4), json_values).map(as_json)
)
def test_whatever_is_sent_is_taken_or_refused_in_words(body: bytes) -> None:
    try:
        events = parse_events(body, "application/json", Limits(), NOW_MS, SEED)
    except IngestError as refused:
        # Anything else would fail this test; the words must be fit for an answer.
        orjson.dumps(refused.message)
        return
    for event_id, name, stored in events:
        assert is_ulid(event_id)
        assert name
        name.encode()
        assert canonical_json(stored) == stored
        event = json.loads(stored)
        assert set(event) >= {"data", "id", "name", "ts", "user"}
        assert isinstance(event["data"], dict)
        assert "_inngest" not in event["data"]


@given(event=eventish)
def test_taking_a_stored_event_again_changes_nothing(event: dict[str, Any]) -> None:
    try:
        ((_, name, stored),) = parse_events(as_json({**event, "name": "x"}), "", Limits(), NOW_MS, SEED)
    except IngestError:
        return
    assert parse_events(stored, "", Limits(), NOW_MS + 1, SEED)[0][1:] == (name, stored)
