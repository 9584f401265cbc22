"""The laws a program must keep, checked apart from the passes that transform it, after each of them.

``annotate`` follows level and scale through the program; it is the only place that knows how operations change them.
Scales are followed in whole bits of the nominal primes; the library tracks the exact ones.
"""

from __future__ import annotations

import msgspec

from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.errors import InvalidProgram, LevelExhausted, ScaleMismatch
from helora_core.packing.protocol import ScaleRole
from helora_core.params.ckks import CKKSParams

_REPORT = "This is a fault of the packing or of a compiler pass, not of your data: report it with the plan's --show."


class Scales(msgspec.Struct, frozen=True, kw_only=True):
    """log2 of the scales of a plan: of the client's input and of the two kinds of plaintext."""

    input_bits: int
    down_bits: int
    up_bits: int

    def of(self, role: ScaleRole | None) -> int:
        """The scale, in bits, of a plaintext of this role."""
        return self.up_bits if role is ScaleRole.UP else self.down_bits


class ValueInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a value before anything runs: its level and log2 of its nominal scale."""

    level: int
    scale_bits: int


def annotate(program: Program, params: CKKSParams, scales: Scales) -> tuple[ValueInfo, ...]:
    """Level and scale of every value.

    Raises:
        InvalidProgram: An operation reads what is not there yet, has the wrong operands, rotates out of range, adds
            values of different levels, names one constant at two levels or scales, or lets a scale outgrow the modulus
            or sink to 1.
        ScaleMismatch: Two values of different scales are added.
        LevelExhausted: A value at level 0 is rescaled.
    """
    if program.slots != params.slots:
        raise InvalidProgram(f"Program for {program.slots} slots; the ring has {params.slots}.", hint=_REPORT)
    if not program.outputs:
        raise InvalidProgram("Program without outputs.", hint=_REPORT)
    infos: list[ValueInfo] = []
    constants: dict[str, tuple[int, ScaleRole | None]] = {}
    for i, op in enumerate(program.ops):
        _check_operands(i, op, program.slots)
        operands = [infos[arg] for arg in op.args]
        info = _apply(i, op, operands, params, scales)
        if op.kind is OpKind.MULTIPLY_PLAIN and constants.setdefault(op.constant, (info.level, op.role)) != (
            info.level,
            op.role,
        ):
            raise InvalidProgram(f"%{i}: constant {op.constant!r} is used at two levels or scales.", hint=_REPORT)
        if not 0 < info.scale_bits < params.modulus_bits_at(info.level):
            raise InvalidProgram(
                f"%{i}: a scale of 2^{info.scale_bits} is not between 1 and the {params.modulus_bits_at(info.level)} "
                f"bits of modulus left at level {info.level}.",
                hint=_REPORT,
            )
        infos.append(info)
    if any(not 0 <= output < len(infos) for output in program.outputs):
        raise InvalidProgram("An output names a value that does not exist.", hint=_REPORT)
    return tuple(infos)


_ARITY = {OpKind.INPUT: 0, OpKind.ROTATE: 1, OpKind.MULTIPLY_PLAIN: 1, OpKind.ADD: 2, OpKind.RESCALE: 1}


def _check_operands(i: int, op: Op, slots: int) -> None:
    if len(op.args) != _ARITY[op.kind] or any(not 0 <= arg < i for arg in op.args):
        raise InvalidProgram(f"%{i}: {op.kind.value} cannot read {op.args}.", hint=_REPORT)
    if op.kind is OpKind.ROTATE and not 0 < op.steps < slots:
        raise InvalidProgram(f"%{i}: rotation by {op.steps} is outside 1..{slots - 1}.", hint=_REPORT)
    if op.kind is OpKind.MULTIPLY_PLAIN and (not op.constant or op.role is None):
        raise InvalidProgram(f"%{i}: a product needs a constant and its role.", hint=_REPORT)


def _apply(i: int, op: Op, operands: list[ValueInfo], params: CKKSParams, scales: Scales) -> ValueInfo:
    if op.kind is OpKind.INPUT:
        return ValueInfo(level=params.max_level, scale_bits=scales.input_bits)
    first = operands[0]
    if op.kind is OpKind.MULTIPLY_PLAIN:
        return ValueInfo(level=first.level, scale_bits=first.scale_bits + scales.of(op.role))
    if op.kind is OpKind.RESCALE:
        if first.level == 0:
            raise LevelExhausted(f"%{i}: rescale of %{op.args[0]}, which is at level 0.", hint=_REPORT)
        return ValueInfo(level=first.level - 1, scale_bits=first.scale_bits - params.data_bits[first.level])
    if op.kind is OpKind.ADD:
        second = operands[1]
        if first.level != second.level:
            raise InvalidProgram(f"%{i}: operands are at levels {first.level} and {second.level}.", hint=_REPORT)
        if first.scale_bits != second.scale_bits:
            raise ScaleMismatch(
                f"%{i}: operands have scales 2^{first.scale_bits} and 2^{second.scale_bits}.", hint=_REPORT
            )
    return first
