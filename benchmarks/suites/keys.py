"""Whether many values of a concurrency key cost more than one."""

from statistics import median

from benchmarks.figures import Figure
from benchmarks.processes import NULL_APP
from benchmarks.session import Bench
from benchmarks.shard import shard

DEFINITION = "c:bench"


async def run(bench: Bench) -> list[Figure]:
    """Requests leased and committed a second where each queues under a key of its own, against all under one.

    Two shards of the server's store, worked on without the server; in turns, so that what changes on the machine
    meanwhile meets both. The ratios are medians of those of neighbours: above 1, many keys are dearer.
    """
    sizes = bench.sizes
    per_round = min(sizes.keys // (2 * sizes.keys_rounds), sizes.keys_leases)
    async with (
        bench.session(NULL_APP) as session,
        shard(session, "one-key") as one,
        shard(session, "keys") as many,
    ):
        await one.cap(DEFINITION, sizes.keys_in_flight)
        await many.cap(DEFINITION, 1)
        await one.fill(sizes.keys, lambda _: f"{DEFINITION}|one")
        await many.fill(sizes.keys, lambda number: f"{DEFINITION}|{number}")
        pairs = [
            (
                await one.work(per_round, sizes.keys_in_flight),
                await many.work(per_round, sizes.keys_in_flight),
            )
            for _ in range(sizes.keys_rounds)
        ]
    name = f"keys.{sizes.keys}"
    return [
        Figure("keys.1.leases", median(few.per_second for few, _ in pairs), "leases/s"),
        Figure(f"{name}.leases", median(other.per_second for _, other in pairs), "leases/s"),
        Figure(f"{name}.time.ratio", median(few.per_second / other.per_second for few, other in pairs), "x"),
        Figure("keys.1.store", median(few.store_us for few, _ in pairs), "µs/lease"),
        Figure(f"{name}.store", median(other.store_us for _, other in pairs), "µs/lease"),
        Figure(f"{name}.store.ratio", median(other.store_us / few.store_us for few, other in pairs), "x"),
    ]
