"""A plan's rounds: what the server does between two messages of the client, as data.

A program is one list of operations; each time it asks the client, the server stops. Cut at those places, it falls
into rounds. Each takes the upload, computes, and sends its outputs down; other values that later rounds read are
kept by the server from one round to the next.

A program of random inputs runs *offline*, ahead of time; one more round, *online*, takes activations masked by the
client's randomness, and is arithmetic in the clear (``helora_core.backend.correlations``). Other programs are all
online.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from typing import NamedTuple

import msgspec

from helora_core.backend.ledger import OperationCounts
from helora_core.compiler.cost import count_operations
from helora_core.compiler.ir import Op, OpKind, Program
from helora_core.compiler.offline import output_masks

_UPLOADED = (OpKind.INPUT, OpKind.ASK_CLIENT)
_MASKED = (OpKind.MASK, OpKind.CORRELATE)


class Phase(str, Enum):
    """When a round runs."""

    OFFLINE = "offline"
    """Ahead of time, on randomness."""
    ONLINE = "online"
    """On activations."""


class RoundKind(str, Enum):
    """What the server does in a round."""

    HOMOMORPHIC = "homomorphic"
    """Operations on ciphertexts."""
    MODULAR = "modular"
    """Exact arithmetic with the weights' integers modulo the wrap limb, on masked values in the clear."""


class Step(NamedTuple):
    """One operation, as an executor needs it.

    Attributes:
        value: Number of the value that it makes.
        op: The operation.
        together: For the first of consecutive rotations of one value: the values of all of them, made at once. For
            the others empty.
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
        phase, kind: When it runs, and on what.
    """

    inputs: tuple[int, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    carried: tuple[int, ...]
    masks: tuple[str, ...]
    counts: OperationCounts
    phase: Phase = Phase.ONLINE
    kind: RoundKind = RoundKind.HOMOMORPHIC

    @property
    def server_counts(self) -> OperationCounts:
        """The operations that the server does."""
        return msgspec.structs.replace(self.counts, encrypts=0, decrypts=0)


def rounds_of(program: Program) -> tuple[Round, ...]:
    """The rounds of a program, one or more."""
    ops = program.ops
    freed = program.last_reads()
    hoisted = {group[0]: tuple(group) for group in program.hoisted_groups()}
    asks = [i for i, op in enumerate(ops) if op.kind is OpKind.ASK_CLIENT]
    rounds = []
    kept = output_masks(program) if program.offline else ()
    for start, end in zip([0, *asks], [*asks, len(ops)], strict=True):
        own = [i for i in range(start, end) if ops[i].kind not in _UPLOADED]
        later = {arg for op in ops[end + 1 :] for arg in op.args}.union(program.results if end < len(ops) else ())
        unmasked = {name for op in ops[end:] if op.kind is OpKind.UNMASK for name in op.constants}.union(kept)
        inputs = program.inputs if start == 0 else (start,)
        outputs = program.results if end == len(ops) else ops[end].args
        counts = count_operations(msgspec.structs.replace(program, ops=tuple(ops[i] for i in own), outputs=()))
        rounds.append(
            Round(
                inputs=inputs,
                steps=tuple(Step(i, ops[i], hoisted.get(i, ()), freed[i]) for i in own),
                outputs=outputs,
                carried=tuple(sorted(i for i in later if i < end or ops[i].kind is OpKind.INPUT)),
                masks=tuple(op.constant for op in ops[:end] if op.kind in _MASKED and op.constant in unmasked),
                counts=msgspec.structs.replace(counts, encrypts=len(inputs), decrypts=len(outputs)),
                phase=Phase.OFFLINE if program.offline else Phase.ONLINE,
            )
        )
    if program.offline and program.results:
        rounds.append(
            Round(program.inputs, (), program.results, (), (), OperationCounts(), Phase.ONLINE, RoundKind.MODULAR)
        )
    return tuple(rounds)


def counts_of(rounds: Iterable[Round], phase: Phase) -> OperationCounts:
    """Operations of one execution in a phase."""
    return reduce(OperationCounts.plus, [turn.counts for turn in rounds if turn.phase is phase], OperationCounts())
