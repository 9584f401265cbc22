"""Indices through stores and marks by the million, while processes crash, stores are put back and parties run twice.

``python -m tests.soaks.pools --indices 1000000``, from the root of the repository. The eavesdroppers of
``tests/parties/once.py`` raise ``UsedTwice`` for an index that is used for a second message. Messages are fakes;
stores, seals, anchors, ownership and marks are the real ones.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parties.once import World
from tests.parties.places import Directory, Faults, Memory, Place

AHEAD = 64
"""Indices that a mark reserves at a time, as ``RESERVED`` of pools."""

SIZES = (*[1] * 12, 2, 8, 33, 64, 100)
"""Tokens of a request. Single ones use up all that is reserved before the mark moves, where a slip would show."""

KINDS = ("memory", "memory, sealed", "memory, no anchor", "directory, sealed")
INDICES = {"directory, sealed": 4_000}
"""Indices of one world, before another one begins."""


@contextmanager
def opened(kind: str, seed: int) -> Iterator[World]:
    """A new world; a directory's processes end at any fsync, replace or unlink, others' before or after a put."""
    faults = Faults()
    options = {"anchored": "no anchor" not in kind, "sealed": "sealed" in kind, "ahead": AHEAD, "seed": seed}
    if not kind.startswith("directory"):
        yield World(lambda: Memory(faults), faults, **options)
        return
    with tempfile.TemporaryDirectory() as folder, faults.at_system_calls():
        paths = iter(Path(folder) / f"place{number}" for number in range(9))

        def make() -> Place:
            return Directory(next(paths))

        world = World(make, faults, **options)
        try:
            yield world
        finally:
            faults.left = None
            world.close()


def soaked(kind: str, seed: int, indices: int) -> World:
    """A world until so many indices left the client.

    Raises:
        UsedTwice: One was used for a second message.
    """
    rng = random.Random(seed)
    with opened(kind, seed) as world:
        anchored = "no anchor" not in kind
        while world.sides["client"].wire.indices < indices:
            who, chance = rng.choice(["client", "server"]), rng.random()
            if not world.request(rng.choice(SIZES)):
                world.prepare(rng.choice([10, 100, 1000, 3000]))
            if chance < 0.05:
                world.crash(who, rng.choice([0, *range(1, 30)]))
            elif chance < 0.07:
                world.replicate(who)
            elif chance < 0.10:
                world.back_up(who)
            elif chance < 0.20:
                world.deviate()
            elif anchored and chance < 0.22:
                world.put_back(who)
            elif anchored and chance < 0.24:
                world.clone(who)
    return world


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--indices", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None, help="a new one each time if not given")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    totals: Counter[str] = Counter()
    start, number = time.monotonic(), 0
    while totals["indices sent"] < asked.indices:
        kind = KINDS[number % len(KINDS)]
        left = min(INDICES.get(kind, 20_000), asked.indices - totals["indices sent"])
        try:
            world = soaked(kind, seed + number, left)
        except BaseException:
            print(f"\n{kind}, seed {seed + number}, {left} indices", file=sys.stderr)
            raise
        client, server = (world.sides[who].wire.indices for who in ("client", "server"))
        totals.update(world.events)
        totals.update({"indices sent": client, "indices answered": server, "messages": world.messages, "worlds": 1})
        totals["steps"] += world.faults.steps
        totals[f"indices sent ({kind})"] += client
        number += 1
        print(
            f"\r{totals['indices sent']} indices, {time.monotonic() - start:.0f} s", end="", file=sys.stderr, flush=True
        )
    print(file=sys.stderr)
    for name, count in sorted(totals.items()):
        print(f"{count:>9} {name}")
    print(f"seed {seed}, {time.monotonic() - start:.0f} s: no index was used twice")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
