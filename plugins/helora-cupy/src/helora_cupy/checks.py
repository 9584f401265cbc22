"""Compares kernels with the reference, exactly, on a machine (`Shim` or `Card`); AssertionError names differences."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_cupy import building, reference
from helora_cupy.tables import FORMS, WORD, buffer_bytes, constants, halves, mod_rows, primes, reversed_bits, table


def moduli(form: str, log_n: int = 14) -> tuple[int, ...]:
    """The largest primes that a form takes, which test the bounds, and smaller ones, for short words."""
    largest = FORMS[form].prime_bits
    return (*primes(form, 2, log_n), *primes(form, 1, log_n, largest - 10), *primes(form, 1, log_n, largest - 6))


def residues(q: int, n: int, kind: int, seed: int = 0) -> list[int]:
    """Inputs that test the bounds: all q − 1, zeros, alternating, one spike, all q/2 or q/2 + 1; else random."""
    rng = np.random.default_rng(seed)
    if kind == 0:
        return [q - 1] * n
    if kind == 1:
        return [0] * n
    if kind == 2:
        return [(q - 1) * (i % 2) for i in range(n)]
    if kind == 3:
        return [q - 1 if i == n - 1 else 0 for i in range(n)]
    if kind == 4:
        return [q // 2 + int(b) for b in rng.integers(0, 2, n)]
    return [int(v) for v in rng.integers(0, q, n)]


def same(got: NDArray[Any], wanted: NDArray[Any], what: str) -> None:
    if not np.array_equal(got, wanted):
        places = np.argwhere(got != wanted)
        raise AssertionError(
            f"{what}: {len(places)} of {wanted.size} differ, first at {tuple(int(i) for i in places[0])}"
        )


def check_ntt(machine: Any, form: str, log_n: int, log_es: tuple[int, ...] = (3, 4, 5), kinds: int = 6) -> int:
    """Both directions on every kind of input and prime, outputs poisoned first. Returns how many limbs were held."""
    n, qs, word, limbs = 1 << log_n, moduli(form), FORMS[form].word, 0
    inputs = [(q, residues(q, n, kind, kind)) for kind in range(kinds) for q in qs]
    given = np.array([x for _, x in inputs], word)
    wanted = np.array([reference.forward(x, q, log_n) for q, x in inputs], word)
    rows = machine.put(mod_rows(form, qs, log_n))
    for log_e in (e for e in log_es if n >> e <= 1024):
        for name, source, result in (("forward", given, wanted), ("inverse", wanted, given)):
            out = machine.put(np.full_like(given, 12345))
            twiddles = machine.put(table(form, qs, log_n, log_e, inverse=name == "inverse"))
            args = [machine.put(source), out, twiddles, rows, len(qs)]
            shared = buffer_bytes(form, log_n, log_e)
            machine.launch(building.ntt(form, log_n), f"{name}_{log_e}", (len(inputs),), n >> log_e, args, shared)
            same(machine.get(out), result, f"{form} {name} N={n}, {1 << log_e} elements a thread")
            limbs += len(inputs)
    for name, source, result in (("forward", given, wanted), ("inverse", wanted, given)):
        inverse = name == "inverse"
        out = machine.put(np.full_like(given, 12345))
        rest = [out, machine.put(table(form, qs, log_n, 3, inverse=inverse, halves=True)), rows, len(qs)]
        parts = halves(form, log_n, 3, inverse=inverse)
        for part, args in zip(parts, ([machine.put(source), *rest], rest), strict=True):
            grid = (part.tiles, len(inputs))
            machine.launch(building.ntt(form, log_n), part.kernel, grid, part.threads, args, part.shared)
        same(machine.get(out), result, f"{form} {name} in halves N={n}")
        limbs += len(inputs)
    return limbs


def _turned(n: int, log_n: int, galois: int) -> list[int]:
    """Where a transform's values are in that of the polynomial at X^galois."""
    places = {(2 * reversed_bits(i, log_n) + 1): i for i in range(n)}
    return [places[(2 * reversed_bits(i, log_n) + 1) * galois % (2 * n)] for i in range(n)]


def key_layout(key: NDArray[Any]) -> NDArray[Any]:
    """[digits, 2, limbs, N] to the kernels' [limbs, N/32, digits, 2, 32]."""
    digits, parts, limbs, n = key.shape
    return np.ascontiguousarray(key.reshape(digits, parts, limbs, n // 32, 32).transpose(2, 3, 0, 1, 4))


def check_keyswitch(machine: Any, form: str, log_n: int, runs: int = 1, digits: int = 3) -> None:
    """Inner product of transformed digits, the same fused with centring and transform, and multiply-add."""
    n, qs = 1 << log_n, moduli(form)
    unit, total, limbs = building.keyswitch(form, log_n, digits, runs), 2 * runs, len(qs)
    others = [primes(form, 5)[2 + d] if d else qs[2] for d in range(digits)]
    key = [[[residues(q, n, 5 if d else p, 7 + d + p) for q in qs] for p in range(2)] for d in range(digits)]
    cooked = np.array(
        [[[constants(form, key[d][p][i], q) for i, q in enumerate(qs)] for p in range(2)] for d in range(digits)]
    )
    rows, ready = machine.put(mod_rows(form, qs, log_n)), machine.put(key_layout(cooked))

    given = [[residues(o, n, (0, 4, 5)[(r + d) % 3], r) for d, o in enumerate(others)] for r in range(total)]
    lifted = [
        [
            [reference.forward([(x - o if x > o // 2 else x) % q for x in xs], q, log_n) for q in qs]
            for xs, o in zip(run, others, strict=True)
        ]
        for run in given
    ]
    wanted = np.array(
        [
            [
                [
                    [sum(lifted[r][d][i][j] * key[d][p][i][j] for d in range(digits)) % q for j in range(n)]
                    for i, q in enumerate(qs)
                ]
                for p in range(2)
            ]
            for r in range(total)
        ],
        np.uint64,
    )
    out = machine.put(np.full_like(wanted, 12345))
    args = [machine.put(np.array(lifted, np.uint64)), ready, out, rows, limbs]
    machine.launch(unit, "inner_product", (n // 256, limbs, total // runs), 256, args)
    same(machine.get(out), wanted, f"{form} inner product N={n}, {runs} runs a thread")

    galois = [pow(5, 3, 2 * n), 2 * n - 1]
    both = np.stack([key_layout(cooked), key_layout(cooked[:, ::-1])])
    turned = [_turned(n, log_n, g) for g in galois]
    wanted_hoisted = np.array(
        [
            [
                [
                    [sum(lifted[0][d][i][t[j]] * key[d][p ^ z][i][j] for d in range(digits)) % q for j in range(n)]
                    for i, q in enumerate(qs)
                ]
                for p in range(2)
            ]
            for z, t in enumerate(turned)
        ],
        np.uint64,
    )
    out = machine.put(np.full_like(wanted_hoisted, 12345))
    args = [
        machine.put(np.array(lifted[0], np.uint64)),
        machine.put(both),
        machine.put(np.array(galois, np.uint32)),
        out,
        rows,
        limbs,
    ]
    machine.launch(unit, "hoisted", (n // 256, limbs, 2), 256, args)
    same(machine.get(out), wanted_hoisted, f"{form} hoisted N={n}")

    lift = np.array([[-o % q for q in qs] for o in others], np.uint64)
    for log_e in (e for e in (3, 4) if n >> e <= 1024):
        out = machine.put(np.full_like(wanted, 12345))
        twiddles = machine.put(table(form, qs, log_n, log_e, inverse=False))
        args = [
            machine.put(np.array(given, np.uint64)),
            ready,
            out,
            twiddles,
            rows,
            machine.put(np.array(others, np.uint64)),
            machine.put(lift),
            limbs,
        ]
        machine.launch(unit, f"switch_key_{log_e}", (limbs, total), n >> log_e, args, buffer_bytes(form, log_n, log_e))
        same(machine.get(out), wanted, f"{form} key switch N={n}, {1 << log_e} elements a thread")

    kinds = [(0, 0, 0), (5, 5, 5), (4, 0, 0), (2, 5, 4)]
    triples = [[residues(q, n, kind, 20 + i) for i, kind in enumerate(kinds[j])] for j, q in enumerate(qs)]
    a, b, s = ([t[i] for t in triples] for i in range(3))
    out = machine.put(np.full((limbs, n), 12345, np.uint64))
    cooked = np.array([constants(form, b[i], q) for i, q in enumerate(qs)])
    args = [
        machine.put(np.array(a, np.uint64)),
        machine.put(cooked),
        machine.put(np.array(s, np.uint64)),
        out,
        rows,
        limbs,
    ]
    machine.launch(unit, "multiply_add", (n // 512, limbs), 256, args)
    wanted = np.array(
        [[(z + x * y) % q for x, y, z in zip(*t, strict=True)] for t, q in zip(triples, qs, strict=True)], np.uint64
    )
    same(machine.get(out), wanted, f"{form} multiply-add N={n}")


def check_gemm(machine: Any, rows: int = 70, depth: int = 300, columns: int = 50, slices: int = 3) -> None:
    """Every product with ragged edges, extreme entries, in one slice and in several."""
    rng, q = np.random.default_rng(3), primes("fma50")[0]
    mod = machine.put(mod_rows("montgomery64", (q,), 14))
    for name in ("wrap", "wrap_small", "integer128", "fma", "fma_small"):
        modulus = WORD if name.startswith("wrap") else q
        high = {"wrap_small": 1 << 32, "fma_small": 1 << 20}.get(name, modulus)
        a = rng.integers(0, modulus - 1, (rows, depth), np.uint64, endpoint=True).astype(object)
        b = rng.integers(0, high - 1, (depth, columns), np.uint64, endpoint=True).astype(object)
        a[0], b[:, 0] = modulus - 1, high - 1
        if name == "fma_small":  # signed, |b| < 2^20
            b[:, 1] = 1 - high
            b[:, 2:30] = -b[:, 2:30]
        wanted = a.dot(b) % modulus
        if name in ("integer128", "fma"):
            right = np.array(b * WORD % q, np.uint64)
        else:
            right = b.astype({"wrap": np.uint64, "wrap_small": np.uint32, "fma_small": np.float64}[name])
        left, right = machine.put(a.astype(np.uint64)), machine.put(right)
        for width, tile in ((16, (64, 16, 128)), (32, (64, 32, 128)), (64, (64, 64, 256))):
            for count in (1, slices):
                c = machine.put(np.full((rows, columns), 0 if count > 1 else 12345, np.uint64))
                slice_ = depth if count == 1 else -(-depth // count)
                grid = (-(-rows // tile[0]), -(-columns // tile[1]), -(-depth // slice_))
                shared = gemm_bytes(name, width)
                machine.launch(
                    building.GEMM,
                    f"{name}_{width}",
                    grid,
                    tile[2],
                    [left, right, c, mod, rows, depth, columns, slice_],
                    shared,
                )
                if modulus == q:
                    machine.launch(building.GEMM, "canonical", (-(-c.size // 256),), 256, [c, mod, int(c.size)])
                same(machine.get(c), wanted.astype(np.uint64), f"{name}_{width}, {count} slices")


def gemm_bytes(name: str, width: int) -> int:
    left, right = (16 if name == "fma_small" else 8), (4 if name == "wrap_small" else 8)
    return 16 * (65 * left + width * right) + 64
