"""How apps are found and kept registered: which URLs are tried, when, and what a person hears of it."""

import asyncio
from collections.abc import Mapping
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from innkeeper_apps.transport import TransportError
from innkeeper_cli.discovery import (
    Keeper,
    News,
    Outcome,
    Scanner,
    Watch,
    after,
    candidates,
    check_url,
    delay_s,
    is_app,
    where,
)

URL = "http://localhost:3000/api/inngest"
OK = Outcome(ok=True)
DOWN = Outcome(ok=False, reason="connection refused by localhost:3000", reachable=False)


# ---- rules


def test_the_usual_ports_and_paths_are_tried_the_likeliest_path_first() -> None:
    found = dict(candidates(own_port=8288))
    assert {3000, 3001, 5173, 8000, 8080, 8787, 8888} <= found.keys()
    assert found[3000] == [
        "http://localhost:3000/api/inngest",
        "http://localhost:3000/x/inngest",
        "http://localhost:3000/.netlify/functions/inngest",
        "http://localhost:3000/.redwood/functions/inngest",
    ]


def test_the_server_does_not_look_for_apps_on_its_own_port() -> None:
    assert 8000 not in dict(candidates(own_port=8000))


@pytest.mark.parametrize(
    "headers", [{"x-inngest-sdk": "inngest-js:v4.24.0"}, {"X-Inngest-SDK": "inngest-py:v0.5.19"}]
)
def test_an_sdk_gives_itself_away_by_its_header(headers: dict[str, str]) -> None:
    assert is_app(headers)
    assert not is_app({"content-type": "application/json"})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0", "[::1]", "LOCALHOST"])
def test_all_names_of_the_loopback_are_one_app(host: str) -> None:
    assert where(f"http://{host}:3000/api/inngest/") == where(URL)


def test_other_ports_paths_and_hosts_are_other_apps() -> None:
    others = [
        "http://localhost:3001/api/inngest",
        "http://localhost:3000/x/inngest",
        "http://app:3000/api/inngest",
    ]
    assert len({where(url) for url in (URL, *others)}) == 4
    assert where("https://app/api/inngest") == ("app", 443, "/api/inngest")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (URL, URL),
        ("localhost:3000", URL),
        ("http://localhost:3000/", URL),
        ("localhost:3000/x/inngest", "http://localhost:3000/x/inngest"),
        ("https://app.example/api/inngest?a=b", "https://app.example/api/inngest?a=b"),
    ],
)
def test_a_url_may_be_given_short(given: str, url: str) -> None:
    assert check_url(given) == url


@pytest.mark.parametrize("given", ["", "ftp://host/x", "http://", "http://host:port/x", "http://host:99999/"])
def test_what_is_no_url_of_an_app_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(ValueError, match="such as http://localhost:3000/api/inngest"):
        check_url(given)


def test_news_is_told_once_and_again_when_it_changes() -> None:
    watch = Watch(url=URL)
    other = Outcome(ok=False, reason="404: is the path right?")
    told: list[str] = []
    for outcome in (DOWN, DOWN, other, other, OK, OK, Outcome(ok=True, modified=True), DOWN, OK):
        watch, news = after(watch, outcome)
        told += [f"{news.kind} {news.text}".strip()] if news else []
    assert told == [
        f"failing {DOWN.reason}",
        f"failing {other.reason}",
        "synced",
        "changed",
        f"failing {DOWN.reason}",
        "synced",
    ]


@given(st.integers(0, 10_000), st.floats(0.1, 3600))
def test_waits_grow_with_failures_and_never_beyond_the_interval(failures: int, interval_s: float) -> None:
    watch = Watch(url=URL, failures=failures)
    more = msgspec.structs.replace(watch, failures=failures + 1)
    assert 0 < delay_s(watch, interval_s) <= delay_s(more, interval_s) <= interval_s
    assert delay_s(msgspec.structs.replace(watch, synced=True), interval_s) == interval_s


# ---- scanning


class Reply(msgspec.Struct):
    headers: list[tuple[str, str]]


class Machine:
    """The ports of a made-up machine: URL -> whether an app answers; a port without URLs refuses."""

    def __init__(self, urls: dict[str, bool]) -> None:
        self.urls = urls
        self.asked: list[str] = []

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float, limit: int
    ) -> Reply:
        assert method == "GET"
        self.asked.append(url)
        port = where(url)[1]
        if not any(where(known)[1] == port for known in self.urls):
            raise TransportError("ConnectionRefused", f"connection refused by localhost:{port}")
        return Reply([("x-inngest-sdk", "inngest-js:v4")] if self.urls.get(url) else [("server", "other")])


async def test_a_scan_finds_the_apps_and_asks_a_closed_port_once() -> None:
    machine = Machine({"http://localhost:3000/x/inngest": True, "http://localhost:8000/api/inngest": True})
    scanner = Scanner(machine, candidates((3000, 3001, 8000), own_port=8288))
    assert await scanner.scan() == ["http://localhost:3000/x/inngest", "http://localhost:8000/api/inngest"]
    assert machine.asked.count("http://localhost:3001/api/inngest") == 1
    assert len([url for url in machine.asked if ":3001/" in url]) == 1


async def test_taken_ports_are_not_asked() -> None:
    machine = Machine({URL: True})
    scanner = Scanner(machine, candidates((3000,), own_port=8288))
    assert await scanner.scan(taken=[3000]) == []
    assert machine.asked == []


async def test_a_server_that_is_no_app_is_asked_less_and_less_often() -> None:
    machine = Machine({"http://localhost:8080/": False})
    now_s = 0.0
    scanner = Scanner(machine, candidates((8080,), own_port=8288), monotonic_s=lambda: now_s)
    scans: list[float] = []
    for _ in range(300):
        before = len(machine.asked)
        await scanner.scan()
        scans += [now_s] if len(machine.asked) > before else []
        now_s += 1.0
    gaps = [b - a for a, b in pairwise(scans)]
    assert gaps == sorted(gaps)
    assert (gaps[0], gaps[-1]) == (5.0, 60.0)


async def test_a_port_that_closed_and_opened_again_is_asked_at_once() -> None:
    machine = Machine({"http://localhost:8080/": False})
    now_s = 0.0
    scanner = Scanner(machine, candidates((8080,), own_port=8288), monotonic_s=lambda: now_s)
    await scanner.scan()
    machine.urls = {}
    now_s = 5.0
    assert await scanner.scan() == []
    machine.urls = {"http://localhost:8080/api/inngest": True}
    assert await scanner.scan() == ["http://localhost:8080/api/inngest"]


# ---- keeping


class World:
    """Time and apps for a `Keeper`: each sleep is noted, and ends at once."""

    def __init__(self, answers: list[Outcome]) -> None:
        self.answers = answers
        self.synced: list[str] = []
        self.slept: list[float] = []
        self.news: list[News] = []
        self.over = asyncio.Event()

    async def sync(self, url: str) -> Outcome:
        self.synced.append(url)
        if not self.answers:
            self.over.set()
            await asyncio.Event().wait()
        return self.answers.pop(0)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


async def test_an_app_that_is_down_is_asked_until_it_registers_and_polled_from_then_on() -> None:
    world = World([DOWN, DOWN, OK, OK])
    keeper = Keeper([URL], world.sync, world.news.append, interval_s=5.0, sleep=world.sleep)
    task = asyncio.create_task(keeper.run())
    await asyncio.wait_for(world.over.wait(), 5)
    task.cancel()
    assert world.slept == [0.5, 1.0, 5.0, 5.0]
    assert [news.kind for news in world.news] == ["failing", "synced"]


async def test_without_polling_an_app_is_left_alone_once_it_has_registered() -> None:
    world = World([DOWN, OK])
    keeper = Keeper([URL], world.sync, world.news.append, interval_s=5.0, poll=False, sleep=world.sleep)
    await asyncio.wait_for(keeper.run(), 5)
    assert world.synced == [URL, URL]


async def test_one_app_given_twice_is_asked_once() -> None:
    world = World([OK])
    urls = [URL, "http://127.0.0.1:3000/api/inngest"]
    keeper = Keeper(urls, world.sync, world.news.append, interval_s=5.0, poll=False, sleep=world.sleep)
    await asyncio.wait_for(keeper.run(), 5)
    assert world.synced == [URL]


async def test_a_found_app_that_goes_away_is_forgotten_and_found_again() -> None:
    machine = Machine({URL: True})
    scanner = Scanner(machine, candidates((3000,), own_port=8288))
    world = World([OK, DOWN, OK])
    keeper = Keeper([], world.sync, world.news.append, interval_s=5.0, scanner=scanner, sleep=world.sleep)
    task = asyncio.create_task(keeper.run())
    await asyncio.wait_for(world.over.wait(), 5)
    task.cancel()
    assert [news.kind for news in world.news] == ["found", "synced", "gone", "found", "synced"]
