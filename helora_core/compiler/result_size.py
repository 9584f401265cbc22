"""Makes clean results shorter: divides them by the primes that their precision does not need, and drops low bits.

A result leaves the server at the level where the program ends, which in a chain without rescales is the highest. Once
it is sanitised, anyone may divide it and round it: that says nothing more of the weights than the result does. Message,
noise and flood shrink alike, and only the rounding is new. It is followed into the bound: that of a division like that
of a rescale, that of dropped bits by terms of its own.

Bits are dropped until the plan has one bit more than the precision that was asked for. What it has beyond that is an
accident of rings and primes; whoever wants it asks for it. The one bit is for Δ that are smaller than expected. A plan
that has less loses no more than ``LOST_BITS``, and none of what was asked for. For backends that cannot leave bits out,
results are only divided, and lose no more than that either.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import msgspec

from helora_core.compiler.checks import annotate
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.noisy import NORMAL, Source
from helora_core.compiler.plan import Plan

LOST_BITS = 1 / 16
"""Most bits of precision that are given for smaller results, if there are none to spare."""

SPARE_BITS = 1.0
"""Bits beyond those asked for that are kept, if a plan has them."""

_PROBE, _TRIES = 8, 3


def smallest_results(plan: Plan, target_bits: float) -> Plan:
    """The plan with results in the fewest bits that keep their precision; others are returned as they are."""
    ops = plan.program.ops
    levels = [plan.values[i].level for i in plan.program.results if ops[i].kind is OpKind.SANITIZE]
    if not levels or len(levels) < len(plan.program.results):
        return plan
    bits = plan.precision().bits
    least = kept_bits(bits, target_bits) if plan.traits.short_results else bits - LOST_BITS
    for dropped in range(min(levels), 0, -1):
        smaller = divided(plan, dropped)
        if smaller is not None and smaller.precision().bits >= least:
            plan = smaller
            break
    return _without_low_bits(plan, least) if plan.traits.short_results else plan


def kept_bits(bits: float, target_bits: float) -> float:
    """The bits of precision that a plan keeps when its results are made shorter, of those that it has."""
    kept = min(bits - LOST_BITS, target_bits + SPARE_BITS)
    return max(kept, target_bits) if bits >= target_bits else kept


def divided(plan: Plan, dropped: int) -> Plan | None:
    """The plan with clean results divided by the primes of so many levels, whatever it divides by now; None if nothing
    of their scale would be left.
    """
    params, ops = plan.params, plan.program.ops
    for output in plan.program.results:
        info = plan.values[ops[output].args[0]]
        if info.level < dropped or info.scale_bits <= sum(params.data_bits[info.level - dropped + 1 : info.level + 1]):
            return None
    return _changed(plan, dropped, ())


def shortened(plan: Plan, low_bits: tuple[int, int]) -> Plan:
    """The plan with these low bits of clean results dropped, whatever it drops now.

    Raises:
        InvalidProgram: There are no such bits.
    """
    return _changed(plan, plan.settings.dropped, low_bits)


def _without_low_bits(plan: Plan, least: float) -> Plan:
    """The plan that drops the most bits of both polynomials together and still has ``least`` bits of precision."""
    if any(plan.values[output].level for output in plan.program.results):
        return plan  # residues modulo several primes have no low bits
    for low_bits in _promising(plan, least):
        shorter = shortened(plan, low_bits)
        if shorter.precision().bits >= least:
            return shorter
    return plan


def _promising(plan: Plan, least: float) -> Iterator[tuple[int, int]]:
    """Pairs of bits to drop that should keep the precision, the best first.

    A probe says how large the errors of a few dropped bits are; those of more are larger by powers of two. Following
    errors through the whole program for each pair would take longer than compiling it.
    """
    most = min(plan.values[output].scale_bits for output in plan.program.results) - 1
    if most < 1:
        return
    probe = min(_PROBE, most)
    report = shortened(plan, (probe, probe)).precision()
    if report.bits < 0:
        return  # nothing of Δ is left, whatever is dropped
    error = {name: share * report.error_bound for name, share in report.terms.items()}
    limit = report.error_bound * 2.0 ** (report.bits - least)
    first, even = _parts(error, Source.DROPPED_BITS, NORMAL)
    second, noise = _parts(error, Source.DROPPED_BITS_TIMES_SECRET, set(Source) - NORMAL)
    rest = limit - sum(error.values()) + math.hypot(first, even) + math.hypot(second, noise)
    found = []
    for of_second in range(most):
        room = rest - math.hypot(second * 2.0 ** (of_second - probe) if of_second else 0.0, noise)
        if room <= even:
            break
        of_first = min(most, max(0, probe + math.floor(math.log2(math.sqrt(room**2 - even**2) / first))))
        found.append((of_first, of_second))
    for of_first, of_second in sorted(found, key=sum, reverse=True)[:_TRIES]:
        yield of_first, of_second
        yield max(0, of_first - 1), of_second


def _parts(error: Mapping[str, float], dropped: Source, kind: Collection[Source]) -> tuple[float, float]:
    """The errors by dropped bits and by all other sources of a kind, each as large as it would be alone."""
    own = error[dropped.label]
    whole = sum(error.get(source.label, 0.0) for source in kind)
    return math.sqrt(own * whole), math.sqrt((whole - own) * whole)


def _changed(plan: Plan, dropped: int, low_bits: tuple[int, ...]) -> Plan:
    def clean(op: Op) -> Op:
        return msgspec.structs.replace(op, steps=dropped, low_bits=low_bits) if op.kind is OpKind.SANITIZE else op

    settings = msgspec.structs.replace(plan.settings, dropped=dropped, low_bits=low_bits)
    program: Program = msgspec.structs.replace(plan.program, ops=tuple(map(clean, plan.program.ops)))
    return replace(plan, settings=settings, program=program, values=annotate(program, plan.params, plan.scales))
