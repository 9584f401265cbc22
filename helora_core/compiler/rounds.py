"""A plan's rounds: what the server does between two messages of the client, as data.

A program is one list of operations; each time it asks the client, the server stops there. Cut at those places it falls
into rounds. Each takes what was uploaded, computes, and sends its outputs down; what later rounds read besides is
carried by the server from one to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.cost import count_operations
from helora_core.compiler.ir import Op, OpKind, Program

_UPLOADED = (OpKind.INPUT, OpKind.ASK_CLIENT)


class Step(NamedTuple):
    """One operation, as an executor needs it.

    Attributes:
        value: Number of the value that it makes.
        op: The operation.
        together: Of the first of neighbouring rotations of one value: the values of all of them, to be made at once. Of
            the others none.
        freed: Values that nothing reads afterwards.
    """

    value: int
    op: Op
    together: tuple[int, ...]
    freed: tuple[int, ...]


@dataclass(frozen=True)
class Round:
    """One turn of the server. Values have their numbers in the plan's program.

    Attributes:
        inputs: Values that the client uploads for it, in order.
        steps: What the server does.
        outputs: Values that go down to the client at its end, in order.
        carried: Values that a later round reads.
        masks: Names of the masks that a later round takes off.
        counts: Operations of one execution, with the client's encryptions and decryptions.
    """

    inputs: tuple[int, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    carried: tuple[int, ...]
    masks: tuple[str, ...]
    counts: OperationCounts

    @property
    def server_counts(self) -> OperationCounts:
        """Those that the server does."""
        return msgspec.structs.replace(self.counts, encrypts=0, decrypts=0)


def rounds_of(program: Program) -> tuple[Round, ...]:
    """The rounds of a program, one or more."""
    ops = program.ops
    freed = program.last_reads()
    hoisted = {group[0]: tuple(group) for group in program.hoisted_groups()}
    asks = [i for i, op in enumerate(ops) if op.kind is OpKind.ASK_CLIENT]
    rounds = []
    for start, end in zip([0, *asks], [*asks, len(ops)], strict=True):
        own = [i for i in range(start, end) if ops[i].kind not in _UPLOADED]
        later = {arg for op in ops[end + 1 :] for arg in op.args}.union(program.results if end < len(ops) else ())
        unmasked = {name for op in ops[end:] if op.kind is OpKind.UNMASK for name in op.constants}
        inputs = program.inputs if start == 0 else (start,)
        outputs = program.results if end == len(ops) else ops[end].args
        counts = count_operations(msgspec.structs.replace(program, ops=tuple(ops[i] for i in own), outputs=()))
        rounds.append(
            Round(
                inputs=inputs,
                steps=tuple(Step(i, ops[i], hoisted.get(i, ()), freed[i]) for i in own),
                outputs=outputs,
                carried=tuple(sorted(i for i in later if i < end or ops[i].kind is OpKind.INPUT)),
                masks=tuple(op.constant for op in ops[:end] if op.kind is OpKind.MASK and op.constant in unmasked),
                counts=msgspec.structs.replace(counts, encrypts=len(inputs), decrypts=len(outputs)),
            )
        )
    return tuple(rounds)
