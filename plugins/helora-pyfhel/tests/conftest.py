"""What these tests share: both roles as the backend makes them, below core's sessions.

The parameters are far too small to be secure, and quick for it; the primes of the chain all differ in length.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_backend import checked
from helora_core.params.ckks import CKKSParams

QUICK = CKKSParams(ring_degree=1024, data_bits=(48, 30, 34), special_bits=(48,), scale_bits=30)
SLOTS = QUICK.slots
TOP = QUICK.max_level
# 3 = 4 - 1 and 6 = 8 - 2 are what SEAL would compose; 9 and 10 are sums.
STEPS = (1, 2, 4, 7, 8, SLOTS // 2, SLOTS - 2, SLOTS - 1)


class Roles(NamedTuple):
    """One key pair."""

    params: CKKSParams
    client: Any
    server: Any

    def encrypted(self, values: Any, scale: float = 2.0**30, encoding: Encoding = Encoding.SLOTS) -> Any:
        """A fresh ciphertext, as the server reads it."""
        fresh = self.client.encrypt(values, scale=scale, encoding=encoding)
        return self.server.deserialize(self.client.serialize(fresh))

    def encoded(self, values: Any, level: int = TOP, scale: float = 2.0**30) -> Any:
        """A plaintext of the server's."""
        return self.server.encoder.encode(values, level=level, scale=scale)

    def decrypted(self, ciphertext: Any, encoding: Encoding = Encoding.SLOTS) -> Any:
        """What the client makes of a result."""
        return self.client.decrypt(self.client.deserialize(self.server.serialize(ciphertext)), encoding=encoding)

    def lowered(self, ciphertext: Any, level: int) -> Any:
        """Down to ``level`` by products with 1, each rescaled by the prime that its scale is."""
        for here in range(self.server.level(ciphertext), level, -1):
            one = self.encoded(np.ones(SLOTS), here, float(self.params.data_primes[here]))
            ciphertext = self.server.rescale(self.server.multiply_plain(ciphertext, one))
        return ciphertext


def _make_roles() -> Roles:
    from helora_pyfhel.backend import PyfhelBackend  # whoever asks for roles has the library

    backend = checked(PyfhelBackend())
    params = backend.resolve(QUICK)
    return Roles(params, *backend.generate_keys(params, STEPS, public_key=True))


@pytest.fixture(scope="session")
def roles() -> Roles:
    return _make_roles()


@pytest.fixture(scope="session")
def strangers() -> Roles:
    """Other keys of the same parameters."""
    return _make_roles()
