"""The ledger: core counts exactly the operations done, and a backend counts nothing."""

from __future__ import annotations

import numpy as np

from helora_core.backend.ledger import Ledger, OperationCounts
from helora_core.conformance.bench import SLOTS, STEPS, Bench


class LedgerCounts:
    """Executed operations."""

    def test_every_operation_is_counted_once(self, bench: Bench) -> None:
        ledger = Ledger()
        client, server = bench.open(ledger=ledger)
        evaluator = server.evaluator
        a = client.encrypt(np.ones(SLOTS), scale_bits=bench.params.scale_bits)
        plain = server.encoder.encode(np.ones(SLOTS), level=bench.params.max_level, scale_bits=bench.params.scale_bits)
        evaluator.rotate(a, 1)
        evaluator.rotate(a, 0)
        evaluator.rotate_many(a, (0, 2, 3))
        product = evaluator.multiply_plain(a, plain)
        evaluator.add(product, product)
        evaluator.sub(product, evaluator.negate(product))
        evaluator.add_plain(a, plain)
        client.decrypt(evaluator.rescale(product))
        assert ledger.counts() == OperationCounts(
            rotations=3, keyswitches=3, ct_pt=1, additions=4, rescales=1, encrypts=1, decrypts=1
        )

    def test_a_backend_counts_nothing_itself(self, bench: Bench) -> None:
        """A counter that a backend increments itself proves nothing; its roles must not offer one."""
        decryptor, evaluator = bench.library.generate_keys(bench.params, STEPS[:1])
        for role in (bench.library, decryptor, evaluator):
            counters = [name for name in dir(role) if "count" in name.lower() or "ledger" in name.lower()]
            assert not counters, f"{type(role).__name__} has {counters}"
