"""Sanitised results on every backend that encrypts and can be used here: they decrypt as well as was asked.

All libraries have a build for Python 3.10 only: ``nox -s conformance`` runs this there with every one of them.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.backend import residues
from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.backend.checked_backend import checked
from helora_core.backend.encodings import checked_native, from_native, native_encoding
from helora_core.backend.protocol import Decryptor, Evaluator
from helora_core.backend.sanitize import rerandomize, sanitize, uniform_mask
from helora_core.errors import CapabilityMissing
from helora_core.host.manager import get_manager
from helora_core.params.ckks import CKKSParams
from helora_core.params.noise import public_encryption_std

# Not secure, and quick for it. Every library can make these primes: those after the first are of the scale's length.
PARAMS = CKKSParams(ring_degree=2048, data_bits=(45, 40, 40), special_bits=(60,), scale_bits=40)
N = PARAMS.ring_degree
SCALE = 2.0**PARAMS.scale_bits
FLOOD_BITS = 20
MASK_BITS = 45
REFRESHED = 8 * public_encryption_std(N) / math.sqrt(N / 2)
"""What re-randomising adds to a coefficient at most, in integer units."""


class Bench(NamedTuple):
    """Both roles of one backend, what it can do, and a product of coefficients at each level."""

    params: CKKSParams
    capabilities: Capabilities
    client: Decryptor
    server: Evaluator

    @property
    def parts(self) -> tuple[Evaluator, CKKSParams, Capabilities]:
        return self.server, self.params, self.capabilities

    def native(self, values: NDArray[np.float64], encoding: Encoding, level: int) -> tuple[Any, Encoding]:
        native, values = checked_native(
            values, encoding, self.capabilities, self.params, level=level, scale=SCALE, who="tests"
        )
        return values, native

    def halved(self, values: NDArray[np.float64], encoding: Encoding, *, level: int) -> Any:
        """The values times a half, once for each level, rescaled."""
        values, native = self.native(values, encoding, self.params.max_level)
        fresh = self.client.encrypt(values, scale=SCALE, encoding=native)
        ciphertext = self.server.deserialize(self.client.serialize(fresh))
        for at in range(self.params.max_level, level, -1):
            half, native = self.native(np.full(1, 0.5), Encoding.SCALAR, at)
            plaintext = self.server.encoder.encode(half, level=at, scale=SCALE, encoding=native)
            ciphertext = self.server.rescale(self.server.multiply_plain(ciphertext, plaintext))
        return ciphertext

    def decrypted(self, ciphertext: Any, encoding: Encoding) -> NDArray[np.float64]:
        native = native_encoding(encoding, self.capabilities, who="tests")
        values = self.client.decrypt(self.client.deserialize(self.server.serialize(ciphertext)), encoding=native)
        scale = self.client.scale(ciphertext)
        return from_native(values, encoding, native, self.capabilities, self.params, scale=scale)


def _usable(rescale: RescaleMode) -> list[str]:
    registered = get_manager().backends().items()
    secure = [name for name, each in registered if each.availability is None and each.spec.provides_security]
    return [name for name in secure if get_manager().load_backend(name).capabilities.rescale is rescale]


@cache
def _bench(backend: str) -> Bench:
    loaded = get_manager().load_backend(backend)
    params = loaded.resolve(PARAMS)
    return Bench(params, loaded.capabilities, *checked(loaded).generate_keys(params, (), public_key=True))


every_explicit_backend = pytest.mark.parametrize("backend", _usable(RescaleMode.EXPLICIT))


@every_explicit_backend
@pytest.mark.parametrize("level", [0, 1, 2])
def test_slots_come_back_with_the_error_that_was_asked_for(backend: str, level: int) -> None:
    bench, x = _bench(backend), np.random.default_rng(1).uniform(-1, 1, size=N // 2)
    before = bench.halved(x, Encoding.SLOTS, level=level)
    after = sanitize(*bench.parts, before, encoding=Encoding.SLOTS, flood_bits=FLOOD_BITS, mask_bits=MASK_BITS)
    assert bench.server.level(after) == level
    assert bench.server.scale(after) == bench.server.scale(before)
    error = bench.decrypted(after, Encoding.SLOTS) - bench.decrypted(before, Encoding.SLOTS)
    asked = 2.0**FLOOD_BITS * math.sqrt(N / 2) / SCALE
    assert np.std(error) == pytest.approx(asked, rel=0.12)
    value = x / 2.0 ** (PARAMS.max_level - level)
    assert np.max(np.abs(bench.decrypted(after, Encoding.SLOTS) - value)) < 6 * asked


@every_explicit_backend
@pytest.mark.parametrize("level", [0, 2])
def test_slots_that_nobody_reads_and_imaginary_parts_are_drowned(backend: str, level: int) -> None:
    bench, x = _bench(backend), np.random.default_rng(1).uniform(-1, 1, size=N // 2)
    before = bench.halved(x, Encoding.SLOTS, level=level)
    read = np.arange(N // 2) % 3 == 0
    after = sanitize(
        *bench.parts,
        before,
        encoding=Encoding.SLOTS,
        flood_bits=FLOOD_BITS,
        mask_bits=MASK_BITS,
        keep=np.flatnonzero(read).tolist(),
    )
    seen, was = (bench.client.decrypt(each, encoding=Encoding.COMPLEX_SLOTS) for each in (after, before))
    added, scale = seen - was, bench.server.scale(after)
    flood, mask = 2.0**FLOOD_BITS * math.sqrt(N / 2) / scale, 2.0**MASK_BITS / scale
    assert np.std(added.real[read]) == pytest.approx(flood, rel=0.2)
    assert np.std(added.real[~read]) == pytest.approx(mask, rel=0.15)
    assert np.std(added.imag) == pytest.approx(mask, rel=0.12)
    assert abs(np.corrcoef(seen.real[~read], x[~read])[0, 1]) < 5 / math.sqrt(N / 3)


@every_explicit_backend
def test_a_flood_of_two_limbs_comes_back_as_large_as_it_was_made(backend: str) -> None:
    bench = _bench(backend)
    before = bench.halved(np.full(N, 0.5), Encoding.COEFFICIENTS, level=2)
    sanitized = sanitize(*bench.parts, before, encoding=Encoding.COEFFICIENTS, flood_bits=90)
    after = bench.decrypted(sanitized, Encoding.COEFFICIENTS)
    assert np.std(after) * SCALE == pytest.approx(2.0**90, rel=0.08)


@every_explicit_backend
@pytest.mark.parametrize("level", [0, 1, 2])
def test_coefficients_to_keep_come_back_and_the_others_are_uniform(backend: str, level: int) -> None:
    bench, x = _bench(backend), np.random.default_rng(2).uniform(-1, 1, size=N)
    before = bench.halved(x, Encoding.COEFFICIENTS, level=level)
    keep = np.arange(63, N, 64).tolist()
    arguments: dict[str, Any] = {"encoding": Encoding.COEFFICIENTS, "flood_bits": 12, "keep": keep}
    if not bench.capabilities.exact_integers:
        with pytest.raises(CapabilityMissing, match="through doubles"):
            sanitize(*bench.parts, before, **arguments)
        return
    seen = bench.decrypted(sanitize(*bench.parts, before, **arguments), Encoding.COEFFICIENTS)
    assert np.max(np.abs(seen - bench.decrypted(before, Encoding.COEFFICIENTS))[keep]) < 2.0 ** (12 + 3 - 40)
    others = np.delete(seen, keep)
    assert abs(np.corrcoef(others, np.delete(x, keep))[0, 1]) < 5 / math.sqrt(others.size)
    share = others * bench.server.scale(before) / math.prod(bench.params.data_primes[: level + 1])
    assert np.max(np.abs(share)) <= 0.5
    assert abs(np.mean(share)) < 5 / math.sqrt(12 * share.size)
    assert np.mean(share**2) == pytest.approx(1 / 12, abs=5 / math.sqrt(180 * share.size))


@every_explicit_backend
@pytest.mark.parametrize("level", [0, 1, 2])
def test_masks_come_off_exactly(backend: str, level: int) -> None:
    bench, x = _bench(backend), np.random.default_rng(3).uniform(-1, 1, size=N)
    before = bench.halved(x, Encoding.COEFFICIENTS, level=level)
    if not bench.capabilities.exact_integers:
        with pytest.raises(CapabilityMissing, match="through doubles"):
            uniform_mask(*bench.parts, before)
        return
    primes = bench.params.data_primes[: level + 1]
    masked, mask = uniform_mask(*bench.parts, before)
    back = bench.server.encoder.encode(
        residues.negative(mask, primes), level=level, scale=bench.server.scale(masked), encoding=Encoding.INTEGERS
    )
    shown = bench.server.add_plain(masked, back)
    seen, was = (bench.client.decrypt(each, encoding=Encoding.INTEGERS) for each in (shown, before))
    error = residues.values_of((seen + residues.negative(was, primes)) % _column(primes), primes, 1.0)
    assert 0 < np.max(np.abs(error)) < REFRESHED


def _column(primes: tuple[int, ...]) -> NDArray[np.uint64]:
    return np.array(primes, dtype=np.uint64)[:, np.newaxis]


@every_explicit_backend
@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_bytes_of_a_refreshed_result_are_others_and_say_the_same(backend: str, level: int) -> None:
    bench, x = _bench(backend), np.random.default_rng(4).uniform(-1, 1, size=N)
    before = bench.halved(x, Encoding.COEFFICIENTS, level=level)
    after = [rerandomize(*bench.parts, before) for _ in range(2)]
    assert len({bench.server.serialize(each) for each in (before, *after)}) == 3
    for each in after:
        error = bench.decrypted(each, Encoding.COEFFICIENTS) - bench.decrypted(before, Encoding.COEFFICIENTS)
        assert np.max(np.abs(error)) * SCALE < REFRESHED


def test_libraries_that_rescale_by_themselves_are_refused() -> None:
    for backend in _usable(RescaleMode.AUTOMATIC):
        bench = _bench(backend)
        ciphertext = bench.client.encrypt(np.ones(4), scale=SCALE)
        with pytest.raises(CapabilityMissing, match="rescales by itself"):
            sanitize(*bench.parts, ciphertext, encoding=Encoding.SLOTS, flood_bits=FLOOD_BITS)
