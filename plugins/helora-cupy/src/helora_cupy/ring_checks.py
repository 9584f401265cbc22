"""Holds a device's kernels to helora-rns's reference, exactly; AssertionError names differences.

Tests run helora-rns's own on the CPU in the card's place; this is what runs on a card, where pytest may not be.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.primes import distinct_ntt_primes
from helora_core.backend.tape import Instruction, InstructionKind, LevelAndScale, Tape, TapeConstant
from helora_cupy.checks import same
from helora_cupy.device import Device
from helora_cupy.kernels import DeviceKernels
from helora_cupy.launches import Launches
from helora_cupy.sampling import Sampling
from helora_cupy.words import DeviceWords
from helora_rns.correlations.kernels import Secret
from helora_rns.correlations.reference import NumPyWords
from helora_rns.correlations.ring import WordRing
from helora_rns.embedding import galois_element
from helora_rns.kernels import interleaved
from helora_rns.primes import automorphism
from helora_rns.programs.interpreter import interpret
from helora_rns.programs.lowering import lower
from helora_rns.reference import NumPyKernels
from helora_rns.scheme import sampling
from helora_rns.scheme.context import Context, Parameters

Array = NDArray[Any]

NARROW, WIDE = (50, 42, 49), (50, 42, 60)
STEPS = (1, 3, 200)


def residues(primes: tuple[int, ...], n: int, count: int, seed: int) -> Array:
    """Random, with the largest and the least among them: (count, primes, N)."""
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.integers(0, q, (count, n), dtype=np.uint64) for q in primes], axis=1)
    for j, q in enumerate(primes):
        rows[:, j, :4] = 0, q - 1, q // 2, q // 2 + 1
    return np.ascontiguousarray(rows)


def check_kernels(device: Device, n: int, bits: tuple[int, ...], count: int = 3) -> None:
    """Transforms, few and many at once, key switches, divisions, sums of products, doubles, slots and packing."""
    primes = distinct_ntt_primes(bits, n)
    own, exact, basis = DeviceKernels(device, n, primes), NumPyKernels(n, primes), tuple(range(len(bits)))
    put, get, what = own.to_device, own.to_host, f"N={n}, primes of {bits} bits"
    x = residues(primes, n, count, 1)
    for name in ("forward", "inverse"):
        expected, found = x.copy(), put(x)
        getattr(exact, name)(expected, basis)
        getattr(own, name)(found, basis)
        same(get(found), expected, f"{name}, {what}")
    a, b = residues(primes, n, count, 2), residues(primes, n, 1, 3)
    same(get(own.multiply_add(put(a), put(b), put(x), basis)), exact.multiply_add(a, b, x, basis), f"a·b + x, {what}")
    same(get(own.sub(put(a), put(x), basis)), exact.sub(a, x, basis), f"a − b, {what}")
    same(get(own.dot([put(a)] * 20, [put(b)] * 20, basis)), exact.dot([a] * 20, [b] * 20, basis), f"dot, {what}")
    for dropped in (1, 2):
        same(
            get(own.mod_down(put(x), basis, dropped)), exact.mod_down(x, basis, dropped), f"mod_down {dropped}, {what}"
        )
    digits = exact.decompose(x[0, :2], basis, 1)
    same(get(own.decompose(put(x[0, :2]), basis, 1)), digits, f"decompose, {what}")
    key = np.ascontiguousarray(interleaved(residues(primes, n, 4, 4).reshape(2, 2, len(bits), n)))
    indices = automorphism(n, 5), automorphism(n, pow(5, -1, 2 * n))
    added = np.ascontiguousarray(a[0, :2])
    found = own.rotated(put(digits), put(key), put(added), indices, basis)
    same(get(found), exact.rotated(digits, key, added, indices, basis), f"rotated, {what}")
    weights = [np.random.default_rng(5).integers(-(2**19), 2**19, (17, 40))] * len(bits)
    terms = [np.ascontiguousarray(each[np.newaxis]) for each in residues(primes, n, 40, 6)]
    for i, (row, wanted) in enumerate(
        zip(own.gemm(weights, list(map(put, terms)), basis), exact.gemm(weights, terms, basis), strict=True)
    ):
        same(get(row), wanted, f"row {i} of a product, {what}")
    doubles = np.rint(np.random.default_rng(7).uniform(-1, 1, n) * 2.0**90)
    same(get(own.values_of_doubles(put(doubles), basis)), exact.values_of_doubles(doubles, basis), f"doubles, {what}")
    same(get(own.to_doubles(put(x[0]), basis)), exact.to_doubles(x[0], basis), f"to doubles, {what}")
    slots = np.random.default_rng(8).normal(size=n // 2) + 1j
    coefficients = exact.slots_to_coefficients(slots, 2.0**40)
    same(get(own.slots_to_coefficients(put(slots), 2.0**40)), coefficients, f"slots, {what}")
    packed = exact.pack(x[0, 1], bits[1])
    if own.pack(put(np.ascontiguousarray(x[0, 1])), bits[1]) != packed:
        raise AssertionError(f"packing, {what}")
    same(get(own.unpack(packed, n, bits[1])), x[0, 1], f"unpacking, {what}")


def check_samples(device: Device, n: int, bits: tuple[int, ...], count: int = 5) -> None:
    """Seeds expand to what they do on the CPU; normal variates have its bits."""
    ring, own = Context(Parameters(n, distinct_ntt_primes(bits, n))), Sampling(device)
    seeds = [bytes([i] * 32) for i in range(count)]
    keys = [(seed, bytes(12)) for seed in seeds]
    out = device.put(np.zeros((count, len(bits), n), np.uint64))
    own.uniform_polynomials(keys, ring.primes, n, out)
    expected = np.stack([sampling.uniform(ring, seed, ring.whole)[0] for seed in seeds])
    same(device.get(out), expected, f"uniform polynomials, N={n}")
    secrets = np.stack([sampling.ternary(ring, seed) for seed in seeds])
    same(device.get(own.ternary_polynomials(keys, n, 1, count)), secrets, f"ternary polynomials, N={n}")
    words = own.words(*keys[1], 5, 2 * n)
    host, exact = device.get(words), NumPyKernels(n, ring.primes)
    same(device.get(own.normal(words)), exact.normal(host), f"normal variates, N={n}")
    same(device.get(own.binomial(words)), exact.binomial(host), f"errors, N={n}")


def _tape() -> Tape:
    """Baby steps, weights, giant steps, a sum of all, and a rescale."""
    place, product = LevelAndScale(1, 1.0), LevelAndScale(1, 2.0)
    kind = InstructionKind
    made = [
        Instruction(kind=kind.ROTATE, args=(0,), result=1, level=1, scale=1.0, steps=STEPS[:2]),
        Instruction(kind=kind.DOT_PLAIN, args=(0, 1, 2), result=3, level=1, scale=2.0, constants=("a", "b", "a")),
        Instruction(kind=kind.DOT_PLAIN, args=(1, 2), result=4, level=1, scale=2.0, constants=("b", "a")),
        Instruction(kind=kind.ROTATE, args=(4,), result=5, level=1, scale=2.0, steps=STEPS[2:]),
        Instruction(kind=kind.ADD, args=(3, 5), result=6, level=1, scale=product.scale),
        Instruction(kind=kind.RESCALE, args=(6,), result=7, level=0, scale=1.0),
    ]
    return Tape((place,), {name: TapeConstant(1, 1.0) for name in "ab"}, tuple(made), (7, 6))


def check_program(device: Device, n: int, bits: tuple[int, ...], runs: int = 3) -> None:
    """A lowered program, for several runs, against the interpreter, of any residues; the last prime is special."""
    primes, data, lowered = distinct_ntt_primes(bits, n), len(bits) - 1, lower(_tape(), 1)
    own, exact, slots = DeviceKernels(device, n, primes), NumPyKernels(n, primes), lowered.slots
    program, shared = Launches(own, lowered, data, 1), [residues(primes, n, 1, 10 + i)[0] for i in range(2)]
    for step in slots.steps:
        element = galois_element(step, n)
        key = np.ascontiguousarray(interleaved(residues(primes, n, 2 * data, step).reshape(data, 2, len(bits), n)))
        shared += [key, automorphism(n, element), automorphism(n, pow(element, -1, 2 * n))]
    there = list(map(own.to_device, shared))
    inputs = [residues(primes[:data], n, 2, run).reshape(-1, n) for run in range(runs)]
    outputs = [[own.empty((2 * limbs, n)) for limbs in slots.outputs] for _ in range(runs)]
    of_inputs = list(map(own.to_device, inputs))
    addresses = [
        [device.address(each) for each in (mine, *outs, *there)] for mine, outs in zip(of_inputs, outputs, strict=True)
    ]
    memory = own.empty((runs, program.buffers.rows, n))
    tables = program.tables(np.array(addresses, np.uint64), device.address(memory))
    program.enqueue(device.put(tables))
    for run in range(runs):
        wanted = [np.zeros((2 * limbs, n), np.uint64) for limbs in slots.outputs]
        scratch = [np.zeros((rows, n), np.uint64) for rows in slots.scratch]
        interpret(exact, lowered.steps, [inputs[run], *wanted, *shared, *scratch], data, 1)
        for i, (found, expected) in enumerate(zip(outputs[run], wanted, strict=True)):
            same(device.get(found), expected, f"output {i} of run {run} of a program, N={n}, primes of {bits} bits")


def check_words(device: Device, n: int, bits: tuple[int, ...]) -> None:
    """Words beside primes: an encryption, and results re-randomised and divided."""
    ring = WordRing(n, distinct_ntt_primes(bits, n))
    own, exact = DeviceWords(ring, DeviceKernels(device, n, ring.primes)), NumPyWords(ring)
    rng, put, limbs = np.random.default_rng(20), device.put, tuple(ring.primes[i] for i in ring.limbs)
    words = rng.integers(0, 2**64, (8, n), dtype=np.uint64)
    values, s = residues(limbs, n, 5, 21), rng.integers(-1, 2, n).astype(np.float64)
    whole, plain = ring.context.whole, NumPyKernels(n, ring.primes)
    exact._kernels = plain
    minus = plain.negate(plain.values_of_doubles(s, whole), whole)
    size = 8 * n + sum(-(-n * q.bit_length() // 8) for q in limbs)
    found, expected = put(np.zeros(size, np.uint8)), np.zeros(size, np.uint8)
    exact.encrypted((words[0], values[0]), words[1], words[2], Secret(minus, 1), expected)
    own.encrypted((put(words[0]), put(values[0])), put(words[1]), put(words[2]), Secret(put(minus), 1), found)
    same(device.get(found), expected, f"encryption with words, N={n}")
    keys = exact.public(words[3:5], values[1:3]), own.public(put(words[3:5]), put(values[1:3]))
    random = rng.integers(0, 2**64, 2 * n, dtype=np.uint64)
    clean = exact.randomised((words[5:7], values[3:5]), keys[0], s, random)
    mine = own.randomised((put(words[5:7]), put(values[3:5])), keys[1], put(s), put(random))
    for each, wanted in zip(mine, clean, strict=True):
        same(device.get(each), wanted, f"re-randomised words, N={n}")
    top = own.quotient(mine[0][0], mine[1][0], put(words[7]), 27)
    same(device.get(top), exact.quotient(clean[0][0], clean[1][0], words[7], 27), f"quotients, N={n}")


def check_all(device: Device, degrees: tuple[int, ...] = (2048, 8192)) -> int:
    """Everything; returns how many checks held."""
    done = 0
    for n in degrees:
        for bits in (NARROW, WIDE):
            check_kernels(device, n, bits)
            check_program(device, n, bits)
            done += 2
        check_samples(device, n, NARROW)
        check_words(device, n, (42, 42))
        done += 2
    return done
