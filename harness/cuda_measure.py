"""What ``cuda_check.py`` measures of the kernels: transforms, key switches, products of matrices."""

# ruff: noqa: B023 - what is timed is called at once, before its loop goes on

from __future__ import annotations

from typing import Any

import numpy as np
from cuda_bench import Bench

from helora_cupy import building, checks
from helora_cupy.tables import FORMS, buffer_bytes, constants, halves, mod_rows, primes, table

KEYSWITCH = ("fma50", "montgomery64", "friendly64")
DIGITS, LIMBS = 3, 4
"""Of a key switch: three primes of data, and a special one."""

SHAPES = ((576, 768, 16), (1536, 1536, 32))


def run_halves(bench: Bench, form: str, log_n: int, batch: int, args: list[Any], *, inverse: bool = False) -> None:
    """A transform in two launches: args are in, out, table, rows, primes."""
    unit, parts = building.ntt(form, log_n), halves(form, log_n, 3, inverse=inverse)
    for part, each in zip(parts, (args, args[1:]), strict=True):
        bench.card.launch(unit, part.kernel, (part.tiles, batch), part.threads, each, part.shared)


def measure_ntt(bench: Bench, degrees: tuple[int, ...], batches: tuple[int, ...]) -> None:
    """Every form: which number of elements a thread is best, that one over all batches, and the two launches."""
    for form, (_, word, bits, _) in FORMS.items():
        for log_n in degrees:
            n, qs, most = 1 << log_n, primes(form, 4), max(batches)
            some = np.random.default_rng(log_n).integers(0, 1 << (bits - 1), (64, n)).astype(word)
            given = bench.cupy.tile(bench.cupy.asarray(some), (most // 64 + 1, 1))[:most]
            rows, there = bench.card.put(mod_rows(form, qs, log_n)), bench.cupy.empty_like(given)
            back, best = bench.cupy.empty_like(given), {}
            for direction, source, out in (("forward", given, there), ("inverse", there, back)):
                best[direction] = _ntt_of(bench, form, log_n, direction, source, out, rows, batches)
                if not direction.startswith("f") and not bool((back == given).all()):
                    raise AssertionError(f"{form} N={n}: inverse(forward(x)) is not x in a batch of {most}")
                inverse = direction == "inverse"
                twiddles = bench.card.put(table(form, qs, log_n, 3, inverse=inverse, halves=True))
                args = [source, out, twiddles, rows, 4]
                for batch in (b for b in batches if b <= 256):
                    us = bench.time(lambda: run_halves(bench, form, log_n, batch, args, inverse=inverse))
                    bench.row(
                        "ntt in halves",
                        form=form,
                        direction=direction,
                        n=n,
                        elements=8,
                        batch=batch,
                        us=us,
                        us_per_limb=us / batch,
                        share=bench.share(2 * batch * n * given.itemsize, us),
                    )
            print(f"  {form} N={n}: {best['forward']:.4f} and {best['inverse']:.4f} µs a limb", flush=True)


def _ntt_of(
    bench: Bench, form: str, log_n: int, direction: str, source: Any, out: Any, rows: Any, batches: Any
) -> float:
    """Its best time a limb; `out` holds the transform of the whole of `source`."""
    n, unit, best, middle = 1 << log_n, building.ntt(form, log_n), {}, min(1024, max(batches))

    def once(log_e: int, batch: int, twiddles: Any) -> None:
        shared, args = buffer_bytes(form, log_n, log_e), [source, out, twiddles, rows, 4]
        bench.card.launch(unit, f"{direction}_{log_e}", (batch,), n >> log_e, args, shared)

    def time_of(op: str, log_e: int, batch: int, twiddles: Any) -> float:
        us = bench.time(lambda: once(log_e, batch, twiddles))
        kernel = bench.card.kernel(unit, f"{direction}_{log_e}")
        used = {"registers": kernel.num_regs, "local_bytes": kernel.local_size_bytes} if op != "ntt" else {}
        cell = {"form": form, "direction": direction, "n": n, "elements": 1 << log_e, "batch": batch}
        share = bench.share(2 * batch * n * source.itemsize, us)
        bench.row(op, **cell, us=us, us_per_limb=us / batch, share=share, **used)
        return us / batch

    for log_e in (e for e in (3, 4, 5) if n >> e <= 1024):
        twiddles = bench.card.put(table(form, primes(form, 4), log_n, log_e, inverse=direction == "inverse"))
        best[log_e] = (*(time_of("ntt by elements a thread", log_e, b, twiddles) for b in (1, middle)), twiddles)
    log_e = min(best, key=lambda e: best[e][1])
    return min(time_of("ntt", log_e, batch, best[log_e][2]) for batch in batches)


def measure_keyswitch(bench: Bench, degrees: tuple[int, ...], batches: tuple[int, ...]) -> None:
    """Inner products, key switches fused and in launches apart, hoisted groups, multiply-add."""
    cupy = bench.cupy
    for form in KEYSWITCH:
        for log_n in degrees:
            n, qs, most, rng = 1 << log_n, primes(form, 4), max(batches), np.random.default_rng(log_n)
            some = cupy.asarray(rng.integers(0, 1 << 49, (1, DIGITS, LIMBS, n)).astype(np.uint64))
            key = np.stack([constants(form, [int(v) for v in rng.integers(0, q, n)], q) for q in qs])
            cooked = bench.card.put(checks.key_layout(np.broadcast_to(key, (DIGITS, 2, LIMBS, n))))
            rows = bench.card.put(mod_rows(form, qs, log_n))
            given, out = cupy.tile(some, (most, 1, 1, 1)), cupy.empty((most, 2, LIMBS, n), cupy.uint64)
            _inner(bench, form, log_n, batches, [given, cooked, out, rows, LIMBS])
            _switches(bench, form, log_n, batches, given, cooked, out, rows)
            _hoisted(bench, form, log_n, given, cooked, rows)
            a, b, s, to = (cupy.tile(some[0, 0], (most, 1)) for _ in range(4))
            if form == "fma50":
                b = b.astype(cupy.float64) - float(1 << 48)
            unit, args = building.keyswitch(form, log_n), [a, b, s, to, rows, LIMBS]
            us = bench.time(lambda: bench.card.launch(unit, "multiply_add", (n // 512, LIMBS * most), 256, args))
            bench.row(
                "multiply-add",
                form=form,
                n=n,
                limbs=LIMBS * most,
                us=us,
                us_per_limb=us / most / LIMBS,
                share=bench.share(32 * n * LIMBS * most, us),
            )
            print(f"  {form} N={n} done", flush=True)


def _inner(bench: Bench, form: str, log_n: int, batches: tuple[int, ...], args: list[Any]) -> None:
    n = 1 << log_n
    for runs in (1, 4):
        unit = building.keyswitch(form, log_n, DIGITS, runs)
        for batch in (b for b in batches if b % runs == 0):
            grid = (n // 256, LIMBS, batch // runs)
            us = bench.time(lambda: bench.card.launch(unit, "inner_product", grid, 256, args))
            size = (DIGITS + 2) * LIMBS * n * 8 * batch
            bench.row(
                "inner product",
                form=form,
                n=n,
                digits=DIGITS,
                limbs=LIMBS,
                runs_a_thread=runs,
                batch=batch,
                us=us,
                us_per_run=us / batch,
                share=bench.share(size, us),
            )


def _switches(bench: Bench, form: str, log_n: int, batches: Any, given: Any, key: Any, out: Any, rows: Any) -> None:
    """From digits in coefficients: in one launch, and as transforms and an inner product with digits in memory between.

    The transforms apart take digits that are lifted already: what centring costs them is not in their time.
    """
    card, n, qs = bench.card, 1 << log_n, primes(form, 4)
    unit, others = building.keyswitch(form, log_n), card.put(np.array(qs[:DIGITS], np.uint64))
    lift = card.put(np.array([[-o % q for q in qs] for o in qs[:DIGITS]], np.uint64))
    for log_e in (e for e in (3, 4) if n >> e <= 1024):
        twiddles, shared = card.put(table(form, qs, log_n, log_e, inverse=False)), buffer_bytes(form, log_n, log_e)
        args = [given, key, out, twiddles, rows, others, lift, LIMBS]
        for batch in batches:
            name, grid = f"switch_key_{log_e}", (LIMBS, batch)
            us = bench.time(lambda: card.launch(unit, name, grid, n >> log_e, args, shared))
            kernel = card.kernel(unit, name)
            bench.row(
                "key switch, one launch",
                form=form,
                n=n,
                digits=DIGITS,
                limbs=LIMBS,
                elements=1 << log_e,
                batch=batch,
                us=us,
                us_per_run=us / batch,
                registers=kernel.num_regs,
                local_bytes=kernel.local_size_bytes,
            )
    there, log_e = bench.cupy.empty_like(given), 4
    whole = card.put(table(form, qs, log_n, log_e, inverse=False))
    half = card.put(table(form, qs, log_n, 3, inverse=False, halves=True))

    def apart(batch: int, in_halves: bool) -> None:
        limbs = DIGITS * LIMBS * batch
        if in_halves:
            run_halves(bench, form, log_n, limbs, [given, there, half, rows, LIMBS])
        else:
            args, shared = [given, there, whole, rows, LIMBS], buffer_bytes(form, log_n, log_e)
            card.launch(building.ntt(form, log_n), f"forward_{log_e}", (limbs,), n >> log_e, args, shared)
        card.launch(unit, "inner_product", (n // 256, LIMBS, batch), 256, [there, key, out, rows, LIMBS])

    for batch in batches:
        for in_halves in (False, True):
            us = bench.time(lambda: apart(batch, in_halves))
            bench.row(
                "key switch, launches apart",
                form=form,
                n=n,
                digits=DIGITS,
                limbs=LIMBS,
                halves=in_halves,
                batch=batch,
                us=us,
                us_per_run=us / batch,
            )


def _hoisted(bench: Bench, form: str, log_n: int, digits: Any, key: Any, rows: Any) -> None:
    """Rotations of one ciphertext in one launch, a key of its own for each: up to 16 sessions' keys of 26 rotations."""
    n, unit = 1 << log_n, building.keyswitch(form, log_n)
    for rotations in (1, 8, 26, 416):
        keys = bench.cupy.tile(key.reshape(1, -1), (rotations, 1))
        galois = bench.card.put(np.array([pow(5, 1 + z % 64, 2 * n) for z in range(rotations)], np.uint32))
        out = bench.cupy.empty((rotations, 2, LIMBS, n), bench.cupy.uint64)
        args = [digits, keys, galois, out, rows, LIMBS]
        us = bench.time(lambda: bench.card.launch(unit, "hoisted", (n // 256, LIMBS, rotations), 256, args))
        bench.row(
            "hoisted rotations",
            form=form,
            n=n,
            digits=DIGITS,
            limbs=LIMBS,
            rotations=rotations,
            us=us,
            us_per_rotation=us / rotations,
            key_mib=keys.nbytes >> 20,
            share=bench.share(keys.nbytes + out.nbytes, us),
        )


def measure_gemm(bench: Bench, tokens: int) -> None:
    """x · down · up in every form, as two products; the same in plaintext float64 by cuBLAS."""
    cupy, rng = bench.cupy, np.random.default_rng(5)
    for d_in, d_out, rank in SHAPES:
        shape, macs = f"{d_in}:{d_out}:{rank}", tokens * rank * (d_in + d_out)
        x = cupy.asarray(rng.integers(0, 1 << 49, (tokens, d_in)).astype(np.uint64))
        for name in ("wrap", "wrap_small", "integer128", "fma", "fma_small"):
            cell = _lora(bench, name, x, d_out, rank)
            us = cell["us_down"] + cell["us_up"]
            bench.row(
                "lora product",
                form=name,
                shape=shape,
                tokens=tokens,
                us=us,
                **cell,
                tera_macs_per_s=macs / us / 1e6,
                tokens_per_s=round(tokens / us * 1e6),
            )
            print(f"  {shape} {name}: {us:.1f} µs", flush=True)
        xf, df, uf = (cupy.random.random(size) for size in ((tokens, d_in), (d_in, rank), (rank, d_out)))
        us = bench.time(lambda: cupy.matmul(cupy.matmul(xf, df), uf), graph=False)
        bench.row(
            "lora product",
            form="plaintext float64 (cuBLAS)",
            shape=shape,
            tokens=tokens,
            us=us,
            tera_macs_per_s=macs / us / 1e6,
            tokens_per_s=round(tokens / us * 1e6),
        )


def _lora(bench: Bench, name: str, x: Any, d_out: int, rank: int) -> dict[str, Any]:
    """Both products, each at its best cut of the depth or width of tile."""
    rng, mod = np.random.default_rng(6), bench.card.put(mod_rows("montgomery64", primes("fma50")[:1], 14))
    high = {"wrap_small": 1 << 20, "fma_small": 1 << 19}.get(name, 1 << 49)
    kind = {"wrap_small": np.uint32, "fma_small": np.float64}.get(name, np.uint64)
    (tokens, d_in), cupy = x.shape, bench.cupy
    down, up = (bench.card.put(rng.integers(0, high, size).astype(kind)) for size in ((d_in, rank), (rank, d_out)))
    hidden, out = cupy.zeros((tokens, rank), cupy.uint64), cupy.empty((tokens, d_out), cupy.uint64)

    def product(a: Any, b: Any, c: Any, width: int, slice_: int) -> None:
        (rows, depth), columns = a.shape, c.shape[1]
        grid = (-(-rows // 64), -(-columns // width), -(-depth // slice_))
        args = [a, b, c, mod, rows, depth, columns, slice_]
        bench.card.launch(
            building.GEMM, f"{name}_{width}", grid, max(128, 4 * width), args, checks.gemm_bytes(name, width)
        )

    def first(slices: int) -> None:
        hidden.data.memset_async(0, hidden.nbytes, bench.stream)
        product(x, down, hidden, rank, -(-d_in // slices))

    by_slices = {slices: bench.time(lambda: first(slices)) for slices in (4, 8, 16)}
    cupy.remainder(hidden, np.uint64(1 << 49), out=hidden)
    by_width = {width: bench.time(lambda: product(hidden, up, out, width, rank)) for width in (32, 64)}
    slices, width = min(by_slices, key=lambda s: by_slices[s]), min(by_width, key=lambda w: by_width[w])
    return {"slices": slices, "width": width, "us_down": by_slices[slices], "us_up": by_width[width]}
