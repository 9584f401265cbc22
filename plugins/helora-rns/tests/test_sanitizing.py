"""Sanitising by the engine: the samples it is made of, their sizes, and that no encryption of zero is used twice."""

from __future__ import annotations

import functools
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.capabilities import Encoding
from helora_core.backend.primes import distinct_ntt_primes
from helora_core.backend.protocol import Sanitizing
from helora_core.backend.residues import values_of
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.host.manager import get_manager
from helora_core.params import noise
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_rns import choice
from helora_rns.arrays import aligned_copy, doubles
from helora_rns.compiled import CompiledKernels
from helora_rns.modular import Residues
from helora_rns.reference import NumPyKernels
from helora_rns.scheme.ciphertexts import Ciphertext
from helora_rns.scheme.context import Context, Parameters, context
from helora_rns.scheme.encryption import Decryptor
from helora_rns.scheme.keys import PublicKey, SecretKey
from helora_rns.scheme.sanitizing import Sanitizer
from helora_rns.scheme.zeros import Zeros

N = 4096
BITS = (50, 48, 40, 33)
"""Data primes; the levels' moduli have 50, 98, 138 and 171 bits."""

COMPILED = [name for name in choice.available() if name != "numpy"]
TOP = len(BITS) - 1

Floats = NDArray[np.float64]


@functools.cache
def ring() -> Context:
    return context(Parameters(N, distinct_ntt_primes(BITS, N)))


@functools.cache
def secret() -> SecretKey:
    return SecretKey(ring())


@functools.cache
def public() -> PublicKey:
    return PublicKey.of(ring(), secret())


def opened(values: Residues, level: int) -> Floats:
    """Coefficients, in integer units."""
    found = Decryptor(ring(), secret()).residues(Ciphertext(values, level, 1.0))
    return values_of(found, ring().data_primes[: level + 1], 1.0)


def is_normal(found: Floats, std: float) -> None:
    """Mean, deviation and fourth moment are a normal distribution's, to five deviations of each."""
    off = 5 / math.sqrt(found.size)
    assert abs(np.mean(found)) < off * std
    assert abs(np.std(found) / std - 1) < off
    assert abs(np.mean((found / std) ** 4) - 3) < off * math.sqrt(96)


class TestSamples:
    """Kernels: all sets give the reference's bits, and these are what they should be."""

    @pytest.mark.parametrize("name", COMPILED)
    def test_all_sets_give_the_same(self, name: str) -> None:
        reference = NumPyKernels(N, ring().primes)
        kernels = CompiledKernels(name, N, ring().primes)
        words = aligned_copy(np.random.default_rng(1).integers(0, 1 << 64, N, dtype=np.uint64))
        words[:4] = words[N // 2 : N // 2 + 4] = [0, (1 << 64) - 1, 1 << 63, 1 << 62]
        assert (kernels.normal(words) == reference.normal(words)).all()
        backwards = aligned_copy(words[::-1])
        parts = [kernels.random_bits(words, 52) * 2.0**40, -kernels.random_bits(backwards, 52)]
        assert (parts[1] == -reference.random_bits(backwards, 52)).all()
        parts = list(map(aligned_copy, parts))
        for shifts in ([0], [140, 0], [0, 0]):
            both = [kernels.of_parts(parts[: len(shifts)], shifts, (0, 3, 2)) for kernels in (kernels, reference)]
            assert (both[0] == both[1]).all()
        for count in (N, 100, 3):
            left, right = doubles((count,)), doubles((count,))
            assert kernels.ternary(words[:200], left) == reference.ternary(words[:200], right) == count
            assert (left == right).all()

    def test_normal_variates_are_box_and_mullers(self) -> None:
        words = np.random.default_rng(2).integers(0, 1 << 64, 1 << 18, dtype=np.uint64)
        found = ring().kernels.normal(aligned_copy(words))
        is_normal(found, 1.0)
        cosine, sine = found.reshape(2, -1)
        radius = np.sqrt(-2 * np.log(((words[: 1 << 17] >> np.uint64(12)) + 1.0) * 2.0**-52))
        assert np.max(np.abs(np.hypot(cosine, sine) - radius)) < 2.0**-49
        turns = np.arctan2(sine, cosine) / (2 * np.pi) % 1
        counts = np.histogram(turns, bins=64, range=(0, 1))[0]
        assert np.max(np.abs(counts - turns.size / 64)) < 6 * math.sqrt(turns.size / 64)
        largest = ring().kernels.normal(np.zeros(N, dtype=np.uint64))
        assert np.max(np.abs(largest)) <= math.sqrt(2 * 52 * math.log(2)) < 8.5

    def test_parts_are_added_as_integers(self) -> None:
        rng = np.random.default_rng(3)
        parts = [np.rint(rng.normal(size=N) * 2.0**bits) for bits in (47, 95, 10)]
        found = ring().kernels.of_parts([aligned_copy(part) for part in parts], [300, 52, 0], (1, 3))
        for place in (0, 1, N - 1):
            whole = (int(parts[0][place]) << 300) + (int(parts[1][place]) << 52) + int(parts[2][place])
            assert [int(row[place]) for row in found] == [whole % ring().primes[i] for i in (1, 3)]


class TestZeros:
    """Encryptions of zero."""

    @pytest.mark.parametrize("level", range(TOP + 1))
    def test_their_noise_is_what_the_bound_counts(self, level: int) -> None:
        zeros = Zeros(ring(), public())
        slots = math.sqrt(N / 2)
        loud = np.concatenate([opened(zeros.encrypted(level), level) for _ in range(4)])
        assert float(np.std(loud)) == pytest.approx(noise.public_encryption_std(N) / slots, rel=0.1)
        quiet = np.concatenate([opened(zeros.quiet(level), level) for _ in range(4)])
        expected = noise.public_encryption_std(N) if level == TOP else noise.rescale_std(N)
        assert float(np.std(quiet)) == pytest.approx(expected / slots, rel=0.1)

    def test_their_polynomials_are_as_good_as_uniform(self) -> None:
        level = 1
        made = Zeros(ring(), public()).encrypted(level)
        ring().kernels.inverse(made, ring().basis(level))
        for row, prime in zip(made.reshape(4, N), ring().data_primes[:2] * 2, strict=True):
            shares = row / prime
            assert abs(float(np.mean(shares)) - 0.5) * math.sqrt(12 * N) < 5
            assert abs(float(np.mean((shares - 0.5) ** 2)) - 1 / 12) * math.sqrt(180 * N) < 5


class TestFloods:
    """Floods and masks are as large as asked, at every size, whatever the result was computed from."""

    @pytest.mark.parametrize(
        ("bits", "level"), [(0, 1), (20, 0), (46, 1), (47, 1), (90, 2), (98, 2), (99, 3), (160, 3)]
    )
    @pytest.mark.parametrize("prepared", [False, True])
    def test_floods_are_normal(self, bits: int, level: int, prepared: bool) -> None:
        sanitizer = Sanitizer(ring(), public())
        assert sanitizer.zeros.prepare(level, 2 * prepared) == 2 * prepared
        sealed = Ciphertext(np.zeros((2, level + 1, N), dtype=np.uint64), level, 1.0)
        how = Sanitizing(Encoding.SLOTS, bits, 0, None)
        found = np.concatenate([opened(sanitizer.sanitized(sealed, how).values, level) for _ in range(2)])
        fresh = noise.public_encryption_std(N) / math.sqrt(N / 2)
        is_normal(found, math.hypot(2.0**bits, fresh))

    def test_low_bits_of_a_long_flood_are_uniform(self) -> None:
        """The noise to be hidden is smaller than a flood's highest bits resolve."""
        sanitizer, level = Sanitizer(ring(), public()), TOP
        sealed = Ciphertext(np.zeros((2, level + 1, N), dtype=np.uint64), level, 1.0)
        made = sanitizer.sanitized(sealed, Sanitizing(Encoding.SLOTS, 150, 0, None))
        found = Decryptor(ring(), secret()).residues(made)
        modulus, primes = math.prod(ring().data_primes), ring().data_primes
        cofactors = [modulus // p * pow(modulus // p, -1, p) for p in primes]
        whole = [sum(int(r) * c for r, c in zip(column, cofactors, strict=True)) % modulus for column in found.T]
        signed = [value - modulus if 2 * value > modulus else value for value in whole]
        for low in (20, 50, 53, 100):
            shares = np.array([(value >> (low - 16)) % (1 << 16) for value in signed]) / (1 << 16)
            assert abs(float(np.mean(shares)) - 0.5) * math.sqrt(12 * N) < 5, low
            assert abs(float(np.mean((shares - 0.5) ** 2)) - 1 / 12) * math.sqrt(180 * N) < 5, low

    @pytest.mark.parametrize(("flood", "mask"), [(20, 60), (100, 140), (60, 150), (90, 60)])
    def test_masks_hide_other_slots_and_leave_those_kept(self, flood: int, mask: int) -> None:
        from helora_rns.scheme.encoding import slots_of

        sanitizer, level, keep = Sanitizer(ring(), public()), TOP, tuple(range(0, N // 2, 3))
        sealed = Ciphertext(np.zeros((2, level + 1, N), dtype=np.uint64), level, 1.0)
        made = sanitizer.sanitized(sealed, Sanitizing(Encoding.SLOTS, flood, mask, keep))
        slots = slots_of(ring(), aligned_copy(opened(made.values, level)), 1.0)
        others = np.setdiff1d(np.arange(N // 2), keep)
        own = math.hypot(2.0**flood * math.sqrt(N / 2), noise.public_encryption_std(N))
        is_normal(slots.imag, math.hypot(2.0**mask, own))
        is_normal(slots.real[others], math.hypot(2.0**mask, own))
        assert float(np.std(slots.real[list(keep)])) < math.hypot(1.1 * own, 2.0 ** (mask - 50))

    def test_coefficients_that_are_not_kept_are_uniform(self) -> None:
        sanitizer, level, keep = Sanitizer(ring(), public()), 1, tuple(range(0, N, 2))
        sealed = Ciphertext(np.zeros((2, level + 1, N), dtype=np.uint64), level, 1.0)
        made = sanitizer.sanitized(sealed, Sanitizing(Encoding.COEFFICIENTS, 40, 0, keep))
        modulus = math.prod(ring().data_primes[: level + 1])
        found = opened(made.values, level)
        is_normal(found[::2], 2.0**40)
        shares = found[1::2] / modulus
        assert abs(float(np.mean(shares))) * math.sqrt(12 * shares.size) < 5
        assert abs(float(np.mean(shares**2)) - 1 / 12) * math.sqrt(180 * shares.size) < 5

    def test_the_mask_that_is_returned_is_the_one_that_was_added(self) -> None:
        sanitizer, level = Sanitizer(ring(), public()), 1
        sealed = Ciphertext(np.zeros((2, level + 1, N), dtype=np.uint64), level, 1.0)
        primes = np.array(ring().data_primes[: level + 1], dtype=np.uint64)[:, np.newaxis]
        hidden, mask = sanitizer.masked(sealed)
        left = (Decryptor(ring(), secret()).residues(hidden) + (primes - mask)) % primes
        assert np.max(np.abs(values_of(left, ring().data_primes[: level + 1], 1.0))) < 2.0**8


class _Careless(Zeros):
    """Hands a ready zero out without taking it away: the laws below must notice."""

    def taken(self, level: int) -> Residues | None:
        ready = self._ready[level]
        return ready[-1].copy() if ready else None


def _taken_by_threads(zeros: Zeros) -> list[bytes]:
    """Zeros that eight threads take while two others fill the pool."""
    found: list[bytes] = []
    stop = threading.Event()

    def fill() -> None:
        while not stop.is_set():
            zeros.prepare(0, 20)

    def take() -> list[bytes]:
        made: list[bytes] = []
        while len(made) < 10:
            if (zero := zeros.taken(0)) is not None:
                made.append(zero.tobytes())
        return made

    with ThreadPoolExecutor(10) as threads:
        fillers = [threads.submit(fill) for _ in range(2)]
        for taken in [threads.submit(take) for _ in range(8)]:
            found += taken.result()
        stop.set()
        for filler in fillers:
            filler.result()
    return found


def _taken_by_child(zeros: Zeros) -> list[bytes]:
    """What a forked child takes; it may prepare some of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            taken = [zeros.taken(0)]
            zeros.prepare(0, 2)
            taken += [zeros.taken(0), zeros.taken(0)]
            os.write(writing, b"".join(zero[:, :, :8].tobytes() for zero in taken if zero is not None))
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        sent = pipe.read()
    return [sent[i : i + 128] for i in range(0, len(sent), 128)]


class TestPool:
    """Each encryption of zero is used once."""

    def test_none_is_used_twice_over_threads(self) -> None:
        found = _taken_by_threads(Zeros(ring(), public()))
        assert len(found) == 80
        assert len(set(found)) == len(found)
        careless = _Careless(ring(), public())
        careless.prepare(0, 1)
        found = _taken_by_threads(careless)
        assert len(set(found)) < len(found), "a pool that gives zeros out twice is not noticed"

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_none_is_used_twice_over_forks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        zeros = Zeros(ring(), public())
        zeros.prepare(0, 4)
        with zeros._lock:  # as another thread may hold it
            child = _taken_by_child(zeros)
        parent = [zero[:, :, :8].tobytes() for zero in (zeros.taken(0) for _ in range(4)) if zero is not None]
        assert len(child) == 2
        assert len(parent) == 4
        assert not set(child) & set(parent)
        zeros.prepare(0, 4)
        monkeypatch.setattr(zeros, "forget", lambda: None)
        child = _taken_by_child(zeros)
        parent = [zero[:, :, :8].tobytes() for zero in (zeros.taken(0) for _ in range(4)) if zero is not None]
        assert set(child) & set(parent), "a child that takes its parent's zeros is not noticed"

    def test_it_is_bounded_and_each_level_has_its_own(self) -> None:
        zero = Zeros(ring(), public()).encrypted(0)
        zeros = Zeros(ring(), public(), most_bytes=3 * zero.nbytes)
        assert zeros.prepare(0, 2) == 2
        assert zeros.prepare(0, 10) == 3
        assert zeros.prepare(1, 1) == 0
        assert zeros.taken(1) is None
        assert sum(zeros.taken(0) is not None for _ in range(5)) == 3
        assert zeros.prepare(1, 1) == 1


def test_a_server_prepares_while_it_is_idle() -> None:
    """The zeros for two runs of a module; they are used, and the answers are as precise as ever."""
    shape = ModuleShape.parse("24:20:3")
    module = synthetic_module(shape, seed=1, name="q_proj")
    plan = compile_plan(shape, get_manager().load_packing("rank_bsgs"), module=module)
    compiled = CompiledModule(module, (Part(name="q_proj", d_out=shape.d_out),), plan)
    client, session = CompiledLoRA([compiled], get_manager().load_backend("rns"), secure=True).open()
    level = plan.values[plan.program.ops[plan.program.results[0]].args[0]].level
    (keys,) = (keys for _, keys in session._keys.values())
    assert session.prepare(2) == 2
    zeros = keys.evaluator.unmetered.library._sanitizer.zeros
    assert len(zeros._ready[level]) == 2
    x = synthetic_activations(shape, 1, seed=1)
    for left in (1, 0, 0):
        delta = client.delta("q_proj", x, session)
        assert np.max(np.abs(delta - module.reference_delta(x))) <= np.max(np.abs(delta)) / 2.0**12
        assert len(zeros._ready[level]) == left
