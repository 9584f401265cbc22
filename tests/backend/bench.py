"""Shared by the tests of sanitising: both roles of a backend, coefficients in and out of them, and statistics."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.checked_backend import checked
from helora_core.backend.embedding import coefficients_to_slots
from helora_core.backend.encodings import checked_native, from_native, native_encoding
from helora_core.backend.protocol import Backend, Decryptor, Evaluator
from helora_core.backend.residues import Integers
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import public_encryption_std
from tests.backend.exact import integers_of, least

# Far too small to be secure, and quick for it.
QUICK = CKKSParams(ring_degree=1024, data_bits=(45, 30, 34), special_bits=(48,), scale_bits=30)
N = QUICK.ring_degree
SLOTS = QUICK.slots
SCALE = 2.0**QUICK.scale_bits
TOP = QUICK.max_level
STEPS = tuple(range(1, 8))
REFRESHED = 8 * public_encryption_std(N) / math.sqrt(N / 2)
"""What re-randomising adds to a coefficient at most, in integer units."""

Integral = NDArray[np.object_]
"""Python integers."""


class Bench(NamedTuple):
    """Both roles, and coefficients in and out of them."""

    params: CKKSParams
    capabilities: Capabilities
    client: Decryptor
    server: Evaluator

    @property
    def parts(self) -> tuple[Evaluator, CKKSParams, Capabilities]:
        """What every function of the module is given first."""
        return self.server, self.params, self.capabilities

    @property
    def inexact(self) -> Capabilities:
        """The same without exact integers: what core makes of complex slots."""
        return msgspec.structs.replace(self.capabilities, encodings=self.capabilities.encodings - {Encoding.INTEGERS})

    def modulus(self, level: int) -> int:
        return math.prod(self.params.data_primes[: level + 1])

    def encrypted(
        self, values: NDArray[np.float64], level: int = TOP, encoding: Encoding = Encoding.COEFFICIENTS
    ) -> Any:
        native, values = checked_native(
            values, encoding, self.capabilities, self.params, level=TOP, scale=SCALE, who="tests"
        )
        fresh = self.client.encrypt(values, scale=SCALE, encoding=native)
        ciphertext = self.server.deserialize(self.client.serialize(fresh))
        while self.server.level(ciphertext) > level:
            at = self.server.level(ciphertext)
            one = self.server.encoder.encode(np.ones(1), level=at, scale=2.0**33, encoding=Encoding.SCALAR)
            ciphertext = self.server.rescale(self.server.multiply_plain(ciphertext, one))
        return ciphertext

    def decrypted(self, ciphertext: Any, encoding: Encoding = Encoding.COEFFICIENTS) -> Any:
        """What the client reads, in integer units."""
        result = self.client.deserialize(self.server.serialize(ciphertext))
        native = native_encoding(encoding, self.capabilities, who="tests")
        scale = self.server.scale(ciphertext)
        values = self.client.decrypt(result, encoding=native)
        return from_native(values, encoding, native, self.capabilities, self.params, scale=scale) * scale

    def integers(self, ciphertext: Any) -> list[int]:
        """The coefficients that the client decrypts, below the modulus."""
        result = self.client.deserialize(self.server.serialize(ciphertext))
        residues = self.client.decrypt(result, encoding=Encoding.INTEGERS)
        return integers_of(residues, self.params.data_primes[: len(residues)])

    def added(self, before: Any, after: Any) -> Integral:
        """What was added to each coefficient, as the residue of least size modulo the level's modulus."""
        differences = [b - a for a, b in zip(self.integers(before), self.integers(after), strict=True)]
        return np.array(least(differences, self.modulus(self.server.level(before))), dtype=object)

    def slots_added(self, before: Any, after: Any) -> NDArray[np.complex128]:
        """The same in each slot, in integer units."""
        added = self.added(before, after).astype(float)
        return coefficients_to_slots(added, N, self.capabilities.slot_generator)


def open_bench(backend: Backend, *, public_key: bool = True) -> Bench:
    params = backend.resolve(QUICK)
    return Bench(params, backend.capabilities, *checked(backend).generate_keys(params, STEPS, public_key=public_key))


def floats(integers: Integers) -> NDArray[np.float64]:
    return np.array([float(each) for each in integers.exact()])


def by_chance(size: int) -> float:
    """Five standard deviations of the correlation of so many independent pairs."""
    return 5 / math.sqrt(size)


def is_normal(noise: NDArray[np.float64], std: float) -> None:
    """Hold numbers to a normal distribution: their deviation to 5 %, or what so few can tell, mean and shape."""
    share = noise / std
    assert np.std(share) == pytest.approx(1.0, rel=max(0.05, 5 / math.sqrt(2 * share.size)))
    assert abs(np.mean(share)) < by_chance(share.size)
    for bound, inside in ((0.5, 0.38292), (1.0, 0.68269), (2.0, 0.95450)):
        chance = 5 * math.sqrt(inside * (1 - inside) / share.size)
        assert np.mean(np.abs(share) < bound) == pytest.approx(inside, abs=chance)
