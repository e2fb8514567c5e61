"""What large bodies cost where they are kept compressed, and where they are not."""

import random
from statistics import median

import orjson

from benchmarks.figures import Figure
from benchmarks.processes import NULL_APP
from benchmarks.session import Bench
from benchmarks.shard import shard
from innkeeper_engine.store.store import StoreSettings

_WORDS = ("alder", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak", "pine", "spruce", "yew")


async def run(bench: Bench) -> list[Figure]:
    """Runs whose event, one step's result and output have a size each: CPU time and memory, compressed against plain.

    Two shards of the server's store, in turns; the ratios are medians of those of neighbours: below 1, compression is
    cheaper. `client` is the process that asks the store, which compresses and unpacks.
    """
    sizes = bench.sizes
    figures: list[Figure] = []
    async with (
        bench.session(NULL_APP) as session,
        shard(session, "plain", compress_over_bytes=0) as plain,
        shard(session, "packed", compress_over_bytes=StoreSettings().compress_over_bytes) as packed,
    ):
        for kib in sizes.bodies_kib:
            count = max(2, sizes.bodies_kib_each // kib)
            bodies = [orders(kib * 1024, number) for number in range(count)]
            pairs = [
                (await plain.carry(bodies), await packed.carry(bodies)) for _ in range(sizes.bodies_rounds)
            ]
            name = f"bodies.{kib}KiB"
            for what in ("client", "store", "memory"):
                one, other = ([getattr(cost, what) for cost in costs] for costs in zip(*pairs, strict=True))
                unit = "KiB/run" if what == "memory" else "µs/run"
                figures += [
                    Figure(f"{name}.{what}.plain", median(one), unit),
                    Figure(f"{name}.{what}", median(other), unit),
                    Figure(
                        f"{name}.{what}.ratio",
                        median(new / max(old, 1e-9) for old, new in zip(one, other, strict=True)),
                        "x",
                    ),
                ]
    return figures


def orders(size: int, seed: int) -> bytes:
    """JSON of about so many bytes, as varied as that of a shop: ids, names, amounts."""
    rng = random.Random(seed)
    found: list[dict[str, object]] = []
    length = 0
    while length < size:
        order = {
            "amount": rng.randint(100, 99_999) / 100,
            "customer": {"email": f"{rng.choice(_WORDS)}.{rng.randint(1, 9999)}@example.com", "vip": False},
            "id": f"ord_{rng.getrandbits(80):020x}",
            "items": [
                {"name": f"{rng.choice(_WORDS)} {rng.choice(_WORDS)}", "quantity": rng.randint(1, 9)}
                for _ in range(rng.randint(1, 5))
            ],
        }
        found.append(order)
        length += len(orjson.dumps(order)) + 1
    event = {"data": {"orders": found}, "name": "bench", "ts": 1_700_000_000_000}
    return orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
