"""However many answers are ready at once, a round of the loop takes little more than was agreed on."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from helora_serve.turns import Turns

ANSWER_S, MOST_S, ASKING, EACH = 0.001, 0.004, 32, 5


class Work:
    """Time that passes by work alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now


async def _answers(most_s: float) -> tuple[float, list[int]]:
    """The longest round, and who was answered, in order."""
    work, answered, longest = Work(), [], 0.0
    turns = Turns(most_s, clock=work.clock)

    async def asking(number: int) -> None:
        for _ in range(EACH):
            await turns.mine()
            work.now += ANSWER_S
            answered.append(number)
            await asyncio.sleep(0)

    async def watching() -> None:
        nonlocal longest
        while True:
            before = work.now
            await asyncio.sleep(0)
            longest = max(longest, work.now - before)

    watcher = asyncio.create_task(watching())
    await asyncio.gather(*(asking(number) for number in range(ASKING)))
    watcher.cancel()
    with suppress(asyncio.CancelledError):
        await watcher
    return longest, answered


def test_a_round_stays_short_and_all_take_turns() -> None:
    longest, answered = asyncio.run(_answers(MOST_S))
    assert longest <= MOST_S + ANSWER_S
    for turn in range(EACH):
        assert sorted(answered[turn * ASKING : (turn + 1) * ASKING]) == list(range(ASKING)), turn


def test_without_it_a_round_is_as_long_as_all_answers() -> None:
    longest, _ = asyncio.run(_answers(1e9))
    assert longest == pytest.approx(ASKING * ANSWER_S)


def test_one_who_leaves_while_waiting_holds_up_nobody() -> None:
    async def run() -> list[int]:
        work, answered = Work(), []
        turns = Turns(MOST_S, clock=work.clock)

        async def asking(number: int) -> None:
            await turns.mine()
            work.now += MOST_S
            answered.append(number)

        tasks = [asyncio.create_task(asking(number)) for number in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return answered

    assert asyncio.run(run()) == [0, 2, 3]
