"""`python -m tests.scenarios`: plays scenarios on loopback and writes their score. Exits with 1 when one is wrong."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from tests.scenarios import loopback
from tests.scenarios.catalogue import FAULTS
from tests.scenarios.generator import generate
from tests.scenarios.inprocess import TIMING, play
from tests.scenarios.score import Row, page


async def _score(seed: int, count: int) -> list[Row]:
    rows = []
    with loopback.platform() as platform:
        for scenario in generate(list(FAULTS.values()), TIMING, seed, count):
            outcome = await play(scenario, platform)
            rows.append(outcome.row)
            print(f"{'right' if outcome.row.right else 'WRONG'}  {scenario.name}", file=sys.stderr, flush=True)
            if not outcome.row.right:
                print(outcome.told, file=sys.stderr, flush=True)
    return rows


def main() -> int:
    """Play, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--count", type=int, default=45, help="scenarios; 45 are each failure and each pair of components"
    )
    parser.add_argument("--write", type=Path, help="file for the page; default: standard output")
    args = parser.parse_args()
    rows = asyncio.run(_score(args.seed, args.count))
    text = page(rows, FAULTS.values(), TIMING, args.seed, "the engine in a process beside the platform, on loopback")
    if args.write:
        args.write.write_text(text)
    else:
        print(text)
    return 0 if all(row.right for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
