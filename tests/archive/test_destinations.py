"""Folders and buckets: a file is there as a whole or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from innkeeper_cli.archive import destinations
from innkeeper_cli.archive.destinations import Bucket, Destination, Folder, destination
from innkeeper_cli.archive.exporter import Exporter
from innkeeper_cli.archive.manifest import Manifest, manifest_of
from innkeeper_cli.archive.windows import Wanted
from innkeeper_cli.errors import RoleError
from innkeeper_engine.store.archive import Standing
from tests.archive.archives import KilledError, Listed, Mortal, lines_in, read_lines
from tests.archive.s3server import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, S3Server

MINUTE = 60_000
STANDING = Standing(10 * MINUTE, 10 * MINUTE, 10**6, 10**6)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A store of objects, which the variables of this process lead to."""
    server = S3Server()
    lead_to(server, monkeypatch)
    try:
        yield server
    finally:
        server.stop()


def lead_to(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what everybody sets who speaks to a store that is not Amazon's."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Destination:
    """A destination of either kind."""
    if request.param == "folder":
        return Folder(tmp_path / "archive")
    request.getfixturevalue("s3")
    return Bucket(f"s3://{BUCKET}/some/prefix")


async def put(place: Destination, path: str, content: bytes) -> None:
    """A file, by way of a spool."""
    async with place.spool(path) as spool:
        spool.file.write(content)
        await spool.publish()


async def test_files_are_there_once_they_are_published(place: Destination) -> None:
    path = "runs/env=prod~a!2Fb/date=2026-11-23/runs-1.parquet"
    async with place.spool(path) as spool:
        spool.file.write(b"half")
        assert not await place.exists(path)
    assert not await place.exists(path)
    assert await place.read(path) is None
    await put(place, path, b"whole")
    assert await place.exists(path)
    assert await place.read(path) == b"whole"
    await place.close()


async def test_small_files_are_replaced(place: Destination) -> None:
    await place.write("_innkeeper.json", b"1")
    await place.write("_innkeeper.json", b"2")
    assert await place.read("_innkeeper.json") == b"2"
    await place.close()


async def test_what_breaks_meanwhile_leaves_nothing(place: Destination) -> None:
    async def break_off() -> None:
        async with place.spool("runs/a") as spool:
            spool.file.write(b"half")
            raise KilledError

    with pytest.raises(KilledError):
        await break_off()
    assert not await place.exists("runs/a")
    await place.close()


async def test_an_archive_says_what_it_is(place: Destination) -> None:
    """Whoever wants another one is told; another Redis is taken only when that is said."""
    made = await manifest_of(place, source="A", window_ms=MINUTE, format_name=None, adopt=False)
    assert made == Manifest(source="A", window_ms=MINUTE, format="parquet")
    assert await manifest_of(place, source="A", window_ms=None, format_name=None, adopt=False) == made
    with pytest.raises(RoleError, match="windows of 1m"):
        await manifest_of(place, source="A", window_ms=5 * MINUTE, format_name=None, adopt=False)
    with pytest.raises(RoleError, match="is parquet, not ndjson"):
        await manifest_of(place, source="A", window_ms=None, format_name="ndjson", adopt=False)
    with pytest.raises(RoleError, match="of another Redis"):
        await manifest_of(place, source="B", window_ms=None, format_name=None, adopt=False)
    assert (await manifest_of(place, source="B", window_ms=None, format_name=None, adopt=True)).source == "B"
    assert (await manifest_of(place, source="B", window_ms=None, format_name=None, adopt=False)).source == "B"
    await place.write("_innkeeper.json", b"{}")
    with pytest.raises(RoleError, match="no manifest"):
        await manifest_of(place, source="B", window_ms=None, format_name=None, adopt=False)
    await place.close()


async def test_a_folder_is_for_one_at_a_time(tmp_path: Path) -> None:
    first = Folder(tmp_path)
    with pytest.raises(RoleError, match="another export is writing"):
        Folder(tmp_path)
    await first.close()
    await Folder(tmp_path).close()


async def test_a_folder_loses_what_a_killed_export_left(tmp_path: Path) -> None:
    parts = tmp_path / "_innkeeper" / "parts"
    parts.mkdir(parents=True)
    (parts / "runs-x.parquet").write_bytes(b"half")
    await Folder(tmp_path).close()
    assert list(parts.iterdir()) == []


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RoleError, match="cannot be written to"):
        Folder(tmp_path / "file" / "archive")


@pytest.mark.parametrize(
    "to", ["https://bucket/x", "s3://", "s3:///x", "s3://key:secret@bucket", "s3://b?x=1"]
)
def test_other_places_are_refused(to: str) -> None:
    with pytest.raises(RoleError, match="write s3://bucket/prefix"):
        destination(to)


# ---- buckets


async def test_an_export_to_a_bucket_that_is_killed_at_every_step(s3: S3Server) -> None:
    """Its objects have what came, each once."""
    manifest = Manifest(source="redis", window_ms=MINUTE, format="ndjson")
    source = Listed()
    source.came = [1, 2, MINUTE, 3 * MINUTE, 3 * MINUTE]
    steps, dies_at = 0, 0
    while dies_at <= steps:
        dies_at += 1
        bucket = Bucket(f"s3://{BUCKET}/{dies_at}")
        mortal = Mortal(bucket, dies_at, after=dies_at % 2 == 0)
        try:
            await Exporter(mortal, manifest).export(source, "prod", Wanted(), STANDING)
        except KilledError:
            steps = mortal.done
        await Exporter(bucket, manifest).export(source, "prod", Wanted(), STANDING)
        files = [raw for key, raw in s3.objects.items() if key.startswith(f"{dies_at}/events/")]
        assert sorted(int(row["internal_id"]) for raw in files for row in read_lines(raw)) == [0, 1, 2, 3, 4]
    assert steps > 8
    assert s3.refused == 0


async def test_a_put_whose_answer_is_lost_is_done(s3: S3Server) -> None:
    """It is sent again, and refused, for the file is there."""
    s3.broken_puts = 1
    await put(Bucket(f"s3://{BUCKET}"), "a", b"1")
    assert s3.objects == {"a": b"1"}
    assert [request for request in s3.requests if request.startswith("PUT")] == ["PUT /archive/a"] * 2


async def test_the_file_of_another_exporter_stays(s3: S3Server) -> None:
    s3.objects["a"] = b"first"
    await put(Bucket(f"s3://{BUCKET}"), "a", b"second")
    assert s3.objects == {"a": b"first"}


async def test_a_store_that_knows_no_conditions_will_do(s3: S3Server) -> None:
    """It is asked once."""
    s3.conditional = False
    bucket = Bucket(f"s3://{BUCKET}", retries=0)
    await put(bucket, "a", b"1")
    await put(bucket, "b", b"2")
    assert s3.objects == {"a": b"1", "b": b"2"}
    assert sum(request.startswith("PUT") for request in s3.requests) == 3


async def test_large_files_go_in_parts(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destinations, "ONE_REQUEST_BYTES", 1000)
    content = b"0123456789abcdef" * 500_000
    await put(Bucket(f"s3://{BUCKET}/p"), "large", content)
    assert s3.objects == {"p/large": content}
    assert sum("partNumber" in request for request in s3.requests) == 2


async def test_wrong_credentials_are_told(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence, without them."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another secret")
    with pytest.raises(RoleError, match=r"s3://archive/x: .*") as caught:
        await Bucket(f"s3://{BUCKET}/x").read("a")
    assert "another secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_bucket_that_is_not_there_is_told(s3: S3Server) -> None:
    bucket = Bucket("s3://nowhere")
    with pytest.raises(RoleError, match="s3://nowhere"):
        await put(bucket, "a", b"1")


async def test_a_store_that_does_not_answer_is_told(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RoleError, match=f"s3://{BUCKET}"):
        await Bucket(f"s3://{BUCKET}", retries=0).exists("a")


async def test_a_folder_has_what_came(tmp_path: Path) -> None:
    source = Listed()
    source.came = [1, MINUTE]
    folder = Folder(tmp_path)
    manifest = Manifest(source="redis", window_ms=MINUTE, format="ndjson")
    await Exporter(folder, manifest).export(source, "prod", Wanted(), STANDING)
    await folder.close()
    assert len(lines_in(tmp_path, "events")) == 2
