"""Concurrency: two key pairs in one process do not get mixed up, and two threads may work side by side."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError

from helora_core.conformance.bench import SCALE_BITS, STEPS, Bench
from helora_core.conformance.requirements import slow
from helora_core.conformance.values import random_slots


def in_two_threads(work: Callable[[int, Barrier], None]) -> None:
    """Run ``work(0, barrier)`` and ``work(1, barrier)`` side by side, and raise what either raises."""
    barrier = Barrier(2, timeout=300)

    def run(which: int) -> None:
        try:
            work(which, barrier)
        except BaseException:
            barrier.abort()  # so that the other does not wait forever
            raise

    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(run, which) for which in (0, 1)]
    failures = [failure for failure in (future.exception() for future in futures) if failure is not None]
    for failure in sorted(failures, key=lambda failure: isinstance(failure, BrokenBarrierError)):
        raise failure


class Concurrency:
    """Shared state, if there is any, has no visible effect."""

    def test_two_key_pairs_in_one_process_do_not_meet(self, bench: Bench) -> None:
        """Libraries with a global table of keys mix them up when operations alternate."""
        pairs = [Bench(bench.library, steps=(step,)) for step in (1, 2)]
        for round_ in range(2):
            for step, pair in enumerate(pairs, start=1):
                a, x = pair.encrypted(random_slots(10 * round_ + step))
                pair.agrees(pair.evaluator.rotate(a, step), x.rotate(step))

    def test_a_new_key_pair_leaves_the_old_one_working(self, bench: Bench) -> None:
        a, x = bench.encrypted(random_slots(1))
        bench.open(steps=(5,))
        bench.agrees(bench.evaluator.rotate(a, STEPS[0]), x.rotate(STEPS[0]))

    def test_two_threads_with_contexts_of_their_own_do_not_meet(self, bench: Bench) -> None:
        def work(which: int, barrier: Barrier) -> None:
            own = Bench(bench.library, steps=(1, 3))
            for round_ in range(4):
                a, x = own.encrypted(random_slots(10 * round_ + which))
                barrier.wait()
                total = own.evaluator.add(own.evaluator.rotate(a, 1), own.evaluator.rotate(a, 3))
                own.agrees(total, x.rotate(1).add(x.rotate(3)))

        in_two_threads(work)

    def test_two_threads_may_share_one_server(self, bench: Bench) -> None:
        inputs = [bench.encrypted(random_slots(seed)) for seed in (3, 4)]

        def work(which: int, barrier: Barrier) -> None:
            a, x = inputs[which]
            for step in STEPS[:3]:
                barrier.wait()
                bench.agrees(bench.evaluator.rotate(a, step), x.rotate(step))

        in_two_threads(work)

    @slow
    def test_two_threads_may_share_one_server_for_long(self, bench: Bench) -> None:
        def work(which: int, barrier: Barrier) -> None:
            for round_ in range(20):
                a, x = bench.encrypted(random_slots(2 * round_ + which))
                plain = random_slots(100 + which)
                barrier.wait()
                product = bench.evaluator.multiply_plain(a, bench.encoded(plain))
                bench.agrees(product, x.multiply_plain(plain, SCALE_BITS))
                bench.agrees(bench.evaluator.add(bench.evaluator.rotate(a, 2), a), x.rotate(2).add(x))

        in_two_threads(work)
