"""Rescaled products: no residue is a multiple of one that was sent any more, but the noise still tells.

What is left of the input's error is as large as the rescale's rounding, where the prime that is dropped is as large
as the weights' scale. Averages over queries take the rounding away.
"""

from __future__ import annotations

import numpy as np
from attackers.chances import correlation

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Backend
from helora_core.backend.sanitize import rerandomize
from helora_core.backend.session import open_sessions
from helora_core.params.ckks import CKKSParams

PARAMS = CKKSParams(ring_degree=4096, data_bits=(35, 35), special_bits=(36,), scale_bits=25)
FLOOD_BITS = 5 + 20
"""20 bits above the noise: what is left of the modulus holds no more, in so small a ring."""


def averages_tell_weights(backend: Backend, *, flooded: bool, queries: int = 48) -> float:
    """Correlation of the weights with the regression of re-randomised results of x = 0 on the queries' errors."""
    client, server = open_sessions(backend, PARAMS, (), public_key=True)
    weights = np.random.default_rng(1).normal(size=PARAMS.slots)
    factor = server.encoder.encode(weights, level=1, scale_bits=PARAMS.data_bits[-1])
    over, under = np.zeros(PARAMS.slots), np.zeros(PARAMS.slots)
    for _ in range(queries):
        sent = server.receive(client.send(client.encrypt(np.zeros(1), scale_bits=PARAMS.scale_bits)))
        result = server.evaluator.rescale(server.evaluator.multiply_plain(sent, factor))
        if flooded:
            result = server.sanitize(result, encoding=Encoding.SLOTS, flood_bits=FLOOD_BITS, mask_bits=0, keep=None)
        else:
            result = rerandomize(server.evaluator, server.params, server.capabilities, result)
        error, read = (client.decrypt(each, encoding=Encoding.COMPLEX_SLOTS) for each in (sent, result))
        over += (read * error.conj()).real
        under += np.abs(error) ** 2
    return correlation(over / under, weights)
