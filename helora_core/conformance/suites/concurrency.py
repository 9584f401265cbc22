"""Concurrency: two key pairs in one process do not meet, and two threads may work side by side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from helora_core.conformance.bench import SCALE_BITS, STEPS, Bench
from helora_core.conformance.requirements import slow
from helora_core.conformance.values import random_slots

Result = TypeVar("Result")


def in_two_threads(work: Callable[[int], Result]) -> list[Result]:
    """``[work(0), work(1)]``, begun at the same moment."""
    together = Barrier(2)

    def begin(which: int) -> Result:
        together.wait()
        return work(which)

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(begin, (0, 1)))


class Concurrency:
    """Shared state, if there is any, does not show."""

    def test_two_key_pairs_in_one_process_do_not_meet(self, bench: Bench) -> None:
        """Libraries with a global table of keys mix them up when operations alternate."""
        pairs = [bench.open(steps=(1,)), bench.open(steps=(2,))]
        for round_ in range(2):
            for step, (client, server) in enumerate(pairs, start=1):
                values = random_slots(10 * round_ + step)
                sealed = server.receive(client.send(client.encrypt(values, scale_bits=SCALE_BITS)))
                rotated = client.decrypt(client.receive(server.send(server.evaluator.rotate(sealed, step))))
                assert np.max(np.abs(rotated - np.roll(values, -step))) < 1e-3

    def test_a_new_key_pair_leaves_the_old_one_working(self, bench: Bench) -> None:
        a, x = bench.encrypted(random_slots(1))
        bench.open(steps=(5,))
        bench.agrees(bench.evaluator.rotate(a, STEPS[0]), x.rotate(STEPS[0]))

    def test_two_threads_with_contexts_of_their_own_agree_with_one(self, bench: Bench) -> None:
        def work(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            client, server = bench.open(steps=(1, 3))
            values = random_slots(seed)
            for _ in range(4):
                a = server.receive(client.send(client.encrypt(values, scale_bits=SCALE_BITS)))
                evaluator = server.evaluator
                result = evaluator.add(evaluator.rotate(a, 1), evaluator.rotate(a, 3))
            return client.decrypt(result), np.roll(values, -1) + np.roll(values, -3)

        for actual, expected in in_two_threads(work):
            assert np.max(np.abs(actual - expected)) < 1e-3

    def test_two_threads_may_share_one_server(self, bench: Bench) -> None:
        inputs = [bench.encrypted(random_slots(seed)) for seed in (3, 4)]

        def work(which: int) -> None:
            a, x = inputs[which]
            for step in STEPS[:3]:
                bench.agrees(bench.evaluator.rotate(a, step), x.rotate(step))

        in_two_threads(work)

    @slow
    def test_two_threads_may_share_one_server_for_long(self, bench: Bench) -> None:
        def work(which: int) -> None:
            for round_ in range(20):
                a, x = bench.encrypted(random_slots(2 * round_ + which))
                plain = random_slots(100 + which)
                product = bench.evaluator.multiply_plain(a, bench.encoded(plain))
                bench.agrees(product, x.multiply_plain(plain, SCALE_BITS))
                bench.agrees(bench.evaluator.add(bench.evaluator.rotate(a, 2), a), x.rotate(2).add(x))

        in_two_threads(work)
