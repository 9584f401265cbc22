"""Concurrency: two key pairs in one process do not meet, and two threads may work side by side."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from helora_core.conformance.bench import SCALE_BITS, STEPS, Bench
from helora_core.conformance.values import random_slots


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

        with ThreadPoolExecutor(2) as threads:
            for actual, expected in threads.map(work, (1, 2)):
                assert np.max(np.abs(actual - expected)) < 1e-3

    def test_two_threads_may_share_one_server(self, bench: Bench) -> None:
        inputs = [bench.encrypted(random_slots(seed)) for seed in (3, 4)]

        def work(which: int) -> None:
            a, x = inputs[which]
            for step in STEPS[:3]:
                bench.agrees(bench.evaluator.rotate(a, step), x.rotate(step))

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(work, (0, 1)))
