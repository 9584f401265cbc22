"""One at a time, in order, and no more waiting than may: whatever comes, leaves and ends, in any order."""

from __future__ import annotations

import asyncio

import hypothesis
import pytest
from hypothesis import strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from helora_serve.proxy.turns import Closed, Full, Turns

MOST = 3


class Queue(RuleBasedStateMachine):
    """Beside ``Turns``, a list of who is to be served in which order."""

    everybody = Bundle("everybody")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.turns = Turns(MOST)
        self.tasks: list[asyncio.Task[None]] = []
        self.expected: list[int] = []  # whoever has the turn, then those that wait
        self.closed = False

    def settle(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))

    @rule(target=everybody)
    def somebody_comes(self) -> int:
        task = self.loop.create_task(self.turns.take())
        self.tasks.append(task)
        self.settle()
        number = len(self.tasks) - 1
        if self.closed:
            assert isinstance(task.exception(), Closed)
        elif len(self.expected) > MOST:
            assert isinstance(task.exception(), Full)
        else:
            self.expected.append(number)
        return number

    @precondition(lambda self: self.expected)
    @rule()
    def the_turn_ends(self) -> None:
        self.expected.pop(0)
        self.turns.release()
        self.settle()

    @rule(number=everybody)
    def somebody_leaves(self, number: int) -> None:
        if number in self.expected[1:]:
            self.expected.remove(number)
            self.tasks[number].cancel()
            self.settle()
            assert self.tasks[number].cancelled()

    @precondition(lambda self: len(self.expected) > 1)
    @rule()
    def the_next_one_leaves_as_the_turn_is_given(self) -> None:
        _, second, *rest = self.expected
        self.turns.release()
        self.tasks[second].cancel()
        self.settle()
        self.expected = rest

    @precondition(lambda self: not self.closed)
    @rule()
    def it_is_closed(self) -> None:
        self.turns.close()
        self.settle()
        for number in self.expected[1:]:
            assert isinstance(self.tasks[number].exception(), Closed)
        self.expected, self.closed = self.expected[:1], True

    @invariant()
    def the_first_has_the_turn_and_the_others_wait(self) -> None:
        having = [number for number in self.expected if self.tasks[number].done()]
        assert having == self.expected[:1]
        assert self.turns.waiting == len(self.expected[1:]) <= MOST

    def teardown(self) -> None:
        for task in self.tasks:
            task.cancel()
            if task.done() and not task.cancelled():
                task.exception()
        self.settle()
        self.loop.close()


TestQueue = Queue.TestCase
TestQueue.settings = hypothesis.settings(deadline=None, max_examples=60, stateful_step_count=30)


@hypothesis.given(strategies.integers(0, 5))
def test_as_many_wait_as_may(most: int) -> None:
    async def fill() -> None:
        turns = Turns(most)
        waiting = [asyncio.ensure_future(turns.take()) for _ in range(1 + most)]
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await turns.take()
        for _ in waiting:
            turns.release()
        await asyncio.gather(*waiting)

    asyncio.run(fill())
