"""Divides clean results by the primes that their precision does not need, so that less is sent and decrypted.

A result leaves the server at the level where the program ends, which in a chain without rescales is the highest. Once
it is sanitised, anyone may divide it: that says nothing more of the weights than the result does. Message, noise and
flood shrink alike, and only the rounding of the division is new. It is followed into the bound like that of a rescale.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from helora_core.compiler.checks import annotate
from helora_core.compiler.ir import OpKind, Program
from helora_core.compiler.plan import Plan

LOST_BITS = 1 / 16
"""Most bits of precision that are given for smaller results."""


def smallest_results(plan: Plan) -> Plan:
    """The plan with results at the lowest level at which they keep their precision; others are returned as they are.

    Results ahead of time stay: they are exact modulo the primes of their level, and so are their masks.
    """
    ops = plan.program.ops
    levels = [plan.values[i].level for i in plan.program.results if ops[i].kind is OpKind.SANITIZE]
    if not levels or len(levels) < len(plan.program.results) or plan.program.offline:
        return plan
    least = plan.precision().bits - LOST_BITS
    for dropped in range(min(levels), 0, -1):
        smaller = divided(plan, dropped)
        if smaller is not None and smaller.precision().bits >= least:
            return smaller
    return plan


def divided(plan: Plan, dropped: int) -> Plan | None:
    """The plan with clean results divided by the primes of so many levels, whatever it divides by now; None if nothing
    of their scale would be left.
    """
    params, ops = plan.params, plan.program.ops
    for output in plan.program.results:
        info = plan.values[ops[output].args[0]]
        if info.level < dropped or info.scale_bits <= sum(params.data_bits[info.level - dropped + 1 : info.level + 1]):
            return None
    settings = msgspec.structs.replace(plan.settings, dropped=dropped)
    divided = tuple(msgspec.structs.replace(op, steps=dropped) if op.kind is OpKind.SANITIZE else op for op in ops)
    program: Program = msgspec.structs.replace(plan.program, ops=divided)
    return replace(plan, settings=settings, program=program, values=annotate(program, params, plan.scales))
