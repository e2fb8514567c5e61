"""Whether transforms that misbehave delay the events of others at the same gateway."""

import asyncio
import sys
from collections import Counter

from benchmarks.figures import Figure, percentile, percentiles
from benchmarks.session import Bench
from benchmarks.suites.flood import gateway_cpu_s, paced, request
from benchmarks.tenants import house
from innkeeper_engine.model.environments import Policy, key_digest
from innkeeper_engine.model.webhooks import Webhook

WARM_UP_EVENTS = 5
BAD = {
    "loop": "while (true) {}",
    "memory": "const all = []; for (;;) all.push(new Array(100000).fill(1))",
    "regex": "return {name: 'a', data: {found: /^(a+)+$/.test('a'.repeat(50) + 'b')}}",
    "pollution": "Object.prototype.toJSON = () => 'spoilt'; Object.prototype.polluted = 1; return {name: 'a'}",
    "recursion": "return transform(evt)",
}
"""What the transforms of A do."""


async def run(bench: Bench) -> list[Figure]:
    """B's events, alone and beside requests to webhooks of A whose transforms loop, fill memory, try regular expressions
    without end, spoil prototypes and call themselves.

    The measured seconds begin when all requests are under way. `answered`: from the sending of an event to its 200;
    `sent`: to its first request. The two take turns, a few seconds each. `ratio` is a p99 beside A
    divided by that alone.
    """
    sizes = bench.sizes
    webhooks = [
        Webhook(
            name=name,
            env="a",
            digest=key_digest(_token(name)),
            transform=f"function transform(evt) {{ {body} }}",
        )
        for name, body in BAD.items()
    ]
    requests = tuple(request(f"/w/{_token(name)}", b'{"type":"order.paid","data":{"id":7}}') for name in BAD)
    taken: dict[str, list[tuple[float, float]]] = {"alone": [], "beside": []}
    cpu_s = dict.fromkeys(taken, 0.0)
    answers: Counter[str] = Counter()
    async with house(bench, Policy(), webhooks) as scene:
        await scene.session.closed_loop("noop", WARM_UP_EVENTS, 1)
        for _ in range(sizes.flood_rounds):
            for kind in taken:
                if kind == "beside":
                    await scene.flooder.begin(requests, sizes.transforms_connections)
                    # Until all are under way: that so many connect at once is another thing.
                    await asyncio.sleep(sizes.transforms_ramp_s)
                before = gateway_cpu_s(scene)
                taken[kind] += await paced(scene.session, sizes.flood_s, sizes.flood_rate)
                cpu_s[kind] += gateway_cpu_s(scene) - before
                if kind == "beside":
                    answers.update(await scene.flooder.end())
                    # What waits is run also where its sender has gone.
                    await asyncio.sleep(sizes.transforms_settle_s)
    print(f"transforms: answered {dict(answers)}", file=sys.stderr, flush=True)
    seconds = sizes.flood_rounds * sizes.flood_s
    # The flooder counts from its first request on.
    flooded_s = seconds + sizes.flood_rounds * sizes.transforms_ramp_s
    figures = [Figure("transforms.answers", answers.total() / flooded_s, "answers/s")]
    for at, what in enumerate(("answered", "sent")):
        alone, beside = ([both[at] for both in taken[kind]] for kind in ("alone", "beside"))
        figures += percentiles(f"transforms.alone.{what}", alone, "ms")
        figures += percentiles(f"transforms.beside.{what}", beside, "ms")
        figures.append(
            Figure(f"transforms.{what}.ratio", percentile(beside, 0.99) / percentile(alone, 0.99), "x")
        )
    return figures + [
        Figure(f"transforms.{kind}.cpu", 100 * used / seconds, "% of a core") for kind, used in cpu_s.items()
    ]


def _token(name: str) -> str:
    return f"{name}-" + "t" * 40
