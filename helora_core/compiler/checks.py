"""The laws of programs, checked after each pass and separately from the passes.

``annotate`` follows level and scale through the program; it is the only place that knows how operations change them.
Scales are followed in whole bits of the nominal primes; the library tracks the exact ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence

import msgspec

from helora_core.backend.capabilities import Encoding
from helora_core.backend.coefficient_noise import LARGEST_NORMAL
from helora_core.compiler.ir import PRODUCTS, ConstantSpec, Op, OpKind, Program, plaintexts
from helora_core.compiler.offline import check_offline
from helora_core.errors import InvalidProgram, LevelExhausted, PrecisionLost, ScaleMismatch
from helora_core.packing.protocol import ScaleRole
from helora_core.params.ckks import CKKSParams

NOMINAL_SLACK_BITS = 0.25
"""By how much all primes of a chain may be shorter than their bit lengths say: libraries take the closest to 2^bits.
The actual primes are checked when weights are encoded."""

_REPORT = "This is a fault of the packing or of a compiler pass, not of your data: report it with the plan's --show."


class Scales(msgspec.Struct, frozen=True, kw_only=True):
    """log2 of the scales of a plan: of the client's input and of the two kinds of plaintext."""

    input_bits: int
    down_bits: int
    up_bits: int

    def of(self, role: ScaleRole | None) -> int:
        """The scale, in bits, of a plaintext of this role."""
        return self.up_bits if role is ScaleRole.UP else self.down_bits


class ValueInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A value's level and log2 of its nominal scale, known before anything runs."""

    level: int
    scale_bits: int


def annotate(program: Program, params: CKKSParams, scales: Scales) -> tuple[ValueInfo, ...]:
    """Level and scale of every value.

    Raises:
        InvalidProgram: An operation reads a later value, has the wrong operands, rotates out of range or
            rotates coefficients, adds values of different levels, names one constant at two levels or scales, masks
            at the highest level, or lets a scale outgrow the modulus or sink to 1.
        ScaleMismatch: Two values of different scales are added.
        LevelExhausted: A value at level 0 is rescaled.
    """
    if program.slots != params.slots:
        raise InvalidProgram(f"Program for {program.slots} slots; the ring has {params.slots}.", hint=_REPORT)
    if not program.outputs:
        raise InvalidProgram("Program without outputs.", hint=_REPORT)
    infos: list[ValueInfo] = []
    constants: dict[str, _Use] = {}
    # An operation's result depends on nothing else than this, so it is worked out only once.
    known: dict[tuple[OpKind, ScaleRole | None, int, ValueInfo | None], tuple[ValueInfo, _Use]] = {}
    for i, op in enumerate(program.ops):
        _check_operands(i, op, program)
        first = infos[op.args[0]] if op.args else None
        if len(op.args) > 1:
            _check_alike(i, infos, op.args)
        dropped = op.steps if op.kind is OpKind.SANITIZE else 0
        found = known.get((op.kind, op.role, dropped, first))
        if found is None:
            info = _apply(i, op, first, params, scales)
            found = info, (info.level, op.role, op.kind is OpKind.DOT_SCALARS)
            _check_scale(i, info, params)
            known[op.kind, op.role, dropped, first] = found
        info, use = found
        for name in () if op.kind not in PRODUCTS else plaintexts(op) or (op.constant,):
            if constants.setdefault(name, use) != use:
                raise InvalidProgram(f"%{i}: constant {name!r} is used at two levels or scales.", hint=_REPORT)
        infos.append(info)
    _check_low_bits(program, infos, params)
    if any(not 0 <= output < len(infos) for output in program.results):
        raise InvalidProgram("An output names a value that does not exist.", hint=_REPORT)
    if program.offline or params.wrap_bits:
        check_offline(program, params)
    return tuple(infos)


def _check_low_bits(program: Program, infos: Sequence[ValueInfo], params: CKKSParams) -> None:
    """Low bits are dropped of clean results at level 0, and nothing is computed with what is left."""
    short = {i for i, op in enumerate(program.ops) if op.low_bits and op.kind is not OpKind.CORRELATE}
    for i in short:
        op = program.ops[i]
        possible = len(op.low_bits) == 2 and all(0 <= bits < params.data_bits[0] for bits in op.low_bits)
        if op.kind is not OpKind.SANITIZE or infos[i].level or not possible:
            raise InvalidProgram(
                f"%{i}: {op.kind.value} at level {infos[i].level} cannot drop the low bits {op.low_bits}.", hint=_REPORT
            )
    if short and any(short.intersection(op.args) for op in program.ops):
        raise InvalidProgram("A value is read that has lost its low bits.", hint=_REPORT)


_Use = tuple[int, ScaleRole | None, bool]
"""At which level and scale a constant is used, and whether as numbers; products stay at their operands' level."""

_ARITY = {
    OpKind.INPUT: 0,
    OpKind.ROTATE: 1,
    OpKind.MULTIPLY_PLAIN: 1,
    OpKind.ADD: 2,
    OpKind.RESCALE: 1,
    OpKind.SANITIZE: 1,
    OpKind.MASK: 1,
    OpKind.UNMASK: 1,
    OpKind.CORRELATE: 1,
}
"""Operands of the operations that have a fixed number of them; the others have one or more."""

_NAMED = frozenset({OpKind.MULTIPLY_PLAIN, OpKind.DOT_SCALARS, OpKind.MASK, OpKind.CORRELATE})


def _check_operands(i: int, op: Op, program: Program) -> None:
    kind, args = op.kind, op.args
    arity = _ARITY.get(kind)
    wrong = not args if arity is None else len(args) != arity
    if wrong or (args and not 0 <= min(args) <= max(args) < i):
        raise InvalidProgram(f"%{i}: {kind.value} cannot read {args}.", hint=_REPORT)
    if kind is OpKind.ROTATE:
        if not 0 < op.steps < program.slots:
            raise InvalidProgram(f"%{i}: rotation by {op.steps} is outside 1..{program.slots - 1}.", hint=_REPORT)
        if program.encoding is not Encoding.SLOTS:
            raise InvalidProgram(f"%{i}: coefficients do not rotate.", hint=_REPORT)
    elif (kind in PRODUCTS and op.role is None) or (kind in _NAMED and not op.constant):
        raise InvalidProgram(f"%{i}: a product needs a constant and its role, a mask a name.", hint=_REPORT)
    elif kind is OpKind.UNMASK and not op.constants:
        raise InvalidProgram(f"%{i}: no mask is named.", hint=_REPORT)
    elif kind is OpKind.DOT_PLAIN and len(op.constants) != len(args):
        raise InvalidProgram(f"%{i}: {len(args)} operands and {len(op.constants)} plaintexts.", hint=_REPORT)
    elif kind is OpKind.DOT_SCALARS and len(op.positions) != len(args):
        raise InvalidProgram(f"%{i}: {len(args)} operands and {len(op.positions)} numbers.", hint=_REPORT)
    elif kind is OpKind.INPUT and len(op.positions) != 1:
        raise InvalidProgram(f"%{i}: an input without a position.", hint=_REPORT)


def _apply(i: int, op: Op, first: ValueInfo | None, params: CKKSParams, scales: Scales) -> ValueInfo:
    """Level and scale of the result; all operands have those of ``first``, which is None for an input."""
    if first is None:
        return _info(params.max_level, scales.input_bits)
    if op.kind in PRODUCTS:
        return _info(first.level, first.scale_bits + scales.of(op.role))
    if op.kind is OpKind.RESCALE:
        if first.level == 0:
            raise LevelExhausted(f"%{i}: rescale of %{op.args[0]}, which is at level 0.", hint=_REPORT)
        return _info(first.level - 1, first.scale_bits - params.data_bits[first.level])
    if op.kind is OpKind.SANITIZE and op.steps:
        if not 0 < op.steps <= first.level:
            raise LevelExhausted(
                f"%{i}: drops {op.steps} levels of %{op.args[0]}, which has {first.level}.", hint=_REPORT
            )
        level = first.level - op.steps
        return _info(level, first.scale_bits - sum(params.data_bits[level + 1 : first.level + 1]))
    if op.kind is OpKind.MASK and first.level == params.max_level:
        raise InvalidProgram(f"%{i}: a mask at level {first.level}, above which no prime is left.", hint=_REPORT)
    if op.kind is OpKind.CORRELATE:
        if not params.wrap_bits:
            raise InvalidProgram(f"%{i}: a correlation under parameters without a wrap limb.", hint=_REPORT)
        # The data primes are divided out; what is left is modulo the wrap limb.
        return _info(first.level, first.scale_bits - sum(params.data_bits))
    if op.kind is OpKind.ASK_CLIENT:
        # It sends the integers modulo the lower primes times the upper ones, so that wrapping around is harmless.
        gained = sum(params.data_bits[first.level + 1 :])
        return _info(params.max_level, first.scale_bits + gained)
    return first


@functools.cache
def _info(level: int, scale_bits: int) -> ValueInfo:
    """One object for equal values, so that comparing operands is quick."""
    return ValueInfo(level=level, scale_bits=scale_bits)


def _check_alike(i: int, infos: list[ValueInfo], args: tuple[int, ...]) -> None:
    first = infos[args[0]]
    for other in {id(info): info for info in map(infos.__getitem__, args)}.values():
        if first.level != other.level:
            raise InvalidProgram(f"%{i}: operands are at levels {first.level} and {other.level}.", hint=_REPORT)
        if first.scale_bits != other.scale_bits:
            raise ScaleMismatch(
                f"%{i}: operands have scales 2^{first.scale_bits} and 2^{other.scale_bits}.", hint=_REPORT
            )


def _check_scale(i: int, info: ValueInfo, params: CKKSParams) -> None:
    modulus_bits = params.modulus_bits_at(info.level)
    if not 0 < info.scale_bits < modulus_bits:
        raise InvalidProgram(
            f"%{i}: a scale of 2^{info.scale_bits} is not between 1 and the {modulus_bits} bits of modulus left at "
            f"level {info.level}.",
            hint=_REPORT,
        )


def check_headroom(
    program: Program,
    values: tuple[ValueInfo, ...],
    params: CKKSParams,
    flood_bits: Mapping[int, int],
    mask_bits: Mapping[int, int],
) -> None:
    """Refuse a program if a result, or a value before a rescale, could wrap around the modulus. A result that is
    divided after it is sanitised is looked at before.

    No value exceeds one (``helora_core.compiler.exponents``); a flood or a mask does not exceed ``LARGEST_NORMAL`` of
    its deviations a coefficient, and noise is below either, or else below one. Other values may wrap around: sums and
    products modulo the same primes still give the right result.

    Raises:
        PrecisionLost: Names the operation, and the bits needed and available.
    """
    checked = {*program.results, *(op.args[0] for op in program.ops if op.kind is OpKind.RESCALE)}
    for i in sorted(checked):
        op = program.ops[i]
        info = values[op.args[0]] if op.kind is OpKind.SANITIZE else values[i]
        largest = 2.0**info.scale_bits * 2
        largest += LARGEST_NORMAL * 2.0 ** flood_bits.get(i, 0)
        largest += LARGEST_NORMAL * 2.0 ** mask_bits.get(i, 0) / math.sqrt(params.slots)
        primes = params.data_primes[: info.level + 1]
        room_bits = (
            math.log2(math.prod(primes)) if primes else params.modulus_bits_at(info.level) - NOMINAL_SLACK_BITS
        ) - 1
        if math.log2(largest) >= room_bits:
            raise PrecisionLost(
                f"%{i}: values of {math.log2(largest):.1f} bits, flood and mask included, could wrap the modulus "
                f"at level {info.level}, which holds {room_bits:.1f}.",
                hint="Leave the choice of parameters to the compiler, or use a larger modulus.",
            )


def constant_specs(program: Program, values: Sequence[ValueInfo], scales: Scales) -> dict[str, ConstantSpec]:
    """Level and scale of every plaintext of a checked program, by name, in the order of first use."""
    specs: dict[str, ConstantSpec] = {}
    for op in program.ops:
        if op.kind not in PRODUCTS and not plaintexts(op):
            continue
        level, role = values[op.args[0]].level, op.role or ScaleRole.DOWN
        encoding = Encoding.SCALAR if op.kind is OpKind.DOT_SCALARS else program.encoding
        spec = ConstantSpec(level=level, scale_bits=scales.of(op.role), encoding=encoding, role=role)
        specs |= dict.fromkeys(plaintexts(op) or (op.constant,), spec)
    return specs
