"""A data pipeline: files are split, their parts counted side by side, the counts put together, durably."""

import datetime
import logging
from typing import cast

import fastapi
import inngest
import inngest.fast_api

# In a cluster the Secret `pipeline-inngest-env` says where Innkeeper is and which keys to use; on a laptop INNGEST_DEV
# does.
client = inngest.Inngest(app_id="pipeline", logger=logging.getLogger("uvicorn"))


@client.create_function(
    fn_id="count-words",
    trigger=inngest.TriggerEvent(event="pipeline/file.arrived"),
    retries=3,
)
async def count_words(ctx: inngest.Context) -> dict[str, object]:
    """Counts the words of a file, one part per request, and reports the sum."""
    name, text = str(ctx.event.data["name"]), str(ctx.event.data["text"])

    async def split() -> list[str]:
        return [part for part in text.split("\n") if part.strip()]

    parts = await ctx.step.run("split", split)
    # Each part is a run of `count-part`, with retries and limits of its own, and they go side by side.
    counts = await ctx.group.parallel(
        tuple(
            lambda part=part, n=n: ctx.step.invoke(  # type: ignore[misc]
                f"count-{n}", function=count_part, data={"part": part}, timeout=datetime.timedelta(minutes=5)
            )
            for n, part in enumerate(parts)
        )
    )
    words = sum(cast(int, count) for count in counts)
    await ctx.step.send_event(
        "report", inngest.Event(name="pipeline/file.counted", data={"name": name, "words": words})
    )
    return {"name": name, "parts": len(parts), "words": words}


@client.create_function(
    fn_id="count-part",
    trigger=inngest.TriggerEvent(event="pipeline/part.arrived"),
)
async def count_part(ctx: inngest.Context) -> int:
    """Counts one part."""

    async def count() -> int:
        return len(str(ctx.event.data["part"]).split())

    return await ctx.step.run("count", count)


@client.create_function(
    fn_id="sweep",
    trigger=inngest.TriggerCron(cron="TZ=Europe/Berlin 15 3 * * *"),
)
async def sweep(ctx: inngest.Context) -> str:
    """Cleans up every night."""

    async def remove_old() -> str:
        return "nothing was old"

    return await ctx.step.run("remove-old", remove_old)


app = fastapi.FastAPI()


@app.get("/healthz")
def healthz() -> str:
    """For the readiness probe."""
    return "ok"


inngest.fast_api.serve(app, client, [count_words, count_part, sweep])
