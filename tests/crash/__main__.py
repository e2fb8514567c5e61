"""`python -m tests.crash --kills 200 [--seed N]`: a storm of any length; exit status 1 where a promise was broken."""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.crash.storm import Plan, Report, Storm


def main() -> int:
    """Run a storm and print what happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, help="chosen at random and printed where it is not given")
    parser.add_argument("--rate", type=float, default=8.0, metavar="N", help="requests with events a second")
    parser.add_argument("--folder", type=Path, help="where logs and data are kept (a new one in /tmp)")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    folder = options.folder or Path(tempfile.mkdtemp(prefix="crash-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}, logs and data in {folder}", flush=True)
    plan = Plan(seed, kills=options.kills, requests_a_second=options.rate)

    async def blow() -> Report:
        return await Storm(folder, plan, lambda line: print(line, flush=True)).run()

    # asyncio's own loop: httpx fails in ways of its own on uvloop's transports when a server dies.
    report = asyncio.run(blow())
    print(report.text())
    return 1 if report.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
