"""An app as a process that can be killed: its first attempt never ends. `python -m tests.crash.mortal_app PORT RECORD`.

RECORD gets a line of JSON per request, before anything else happens.
"""

import asyncio
import sys
from pathlib import Path

import orjson

from tests.crash.app import HEADERS
from tests.crash.server import HttpServer, Incoming, Outgoing


async def main(port: int, record: Path) -> None:
    """Serve until it is killed."""

    async def answer(incoming: Incoming) -> Outgoing:
        ctx = orjson.loads(incoming.body)["ctx"]
        with record.open("ab") as lines:
            lines.write(orjson.dumps(ctx) + b"\n")
        if ctx["attempt"] == 0:
            await asyncio.Event().wait()
        return Outgoing(200, orjson.dumps({"attempt": ctx["attempt"]}), HEADERS)

    await HttpServer(answer).start(port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
