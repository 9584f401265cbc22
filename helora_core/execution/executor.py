"""Executes a plan's rounds, operation by operation, on whatever the evaluator calls a ciphertext."""

from __future__ import annotations

from collections.abc import Sequence

from helora_core.backend.protocol import Ciphertext
from helora_core.backend.session import ServerSession
from helora_core.compiler.ir import Op, OpKind
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput
from helora_core.execution.constants import EncodedConstants
from helora_core.execution.interactive import Masks


class Execution:
    """One run of a plan at the server, round by round. Between rounds it holds what later ones read, and the masks.

    Args:
        plan: The plan.
        constants: The module's weights, encoded for this plan.
    """

    def __init__(self, plan: Plan, constants: EncodedConstants) -> None:
        self._plan = plan
        self._constants = constants
        self._live: dict[int, Ciphertext] = {}
        self._masks = Masks(plan)
        self._next = 0

    @property
    def done(self) -> bool:
        """Whether the last round is over."""
        return self._next == len(self._plan.rounds)

    @property
    def bytes_held(self) -> int:
        """Bytes of the masks that it holds."""
        return self._masks.bytes_held

    def proceed(self, server: ServerSession, inputs: Sequence[Ciphertext]) -> list[Ciphertext]:
        """Run the next round and return its outputs, dropping each ciphertext after its last use.

        Args:
            server: The session to compute in, the same in all rounds.
            inputs: What the client uploaded: in the first round one ciphertext for each vector of ``plan.pack``, in
                later ones its answer.

        Raises:
            InvalidInput: The number of inputs is not the round's, or there is no further round.
            MissingRotationKey, ForeignCiphertext, …: As the evaluator's operations raise them.
        """
        if self.done:
            raise InvalidInput("The run is over.", hint="Begin another one for further activations.")
        turn = self._plan.rounds[self._next]
        if len(inputs) != len(turn.inputs):
            raise InvalidInput(
                f"Round {self._next} of the program takes {len(turn.inputs)} ciphertexts and was given {len(inputs)}.",
                hint="Send every ciphertext that plan.pack gave, in order.",
            )
        live, evaluator = self._live, server.evaluator
        live |= zip(turn.inputs, inputs, strict=True)
        for value, op, together, freed in turn.steps:
            if op.kind is OpKind.ROTATE:
                if together:
                    steps = [self._plan.program.ops[each].steps for each in together]
                    live |= zip(together, evaluator.rotate_many(live[op.args[0]], steps), strict=True)
            else:
                live[value] = self._made(server, value, op, [live[arg] for arg in op.args])
            for each in freed:
                del live[each]
        self._next += 1
        outputs = [live[output] for output in turn.outputs]
        self._live = {value: live[value] for value in turn.carried}
        return outputs

    def _made(self, server: ServerSession, value: int, op: Op, operands: list[Ciphertext]) -> Ciphertext:
        constants, evaluator = self._constants, server.evaluator
        if op.kind is OpKind.MULTIPLY_PLAIN:
            return evaluator.multiply_plain(operands[0], constants.plaintext(op.constant))
        if op.kind is OpKind.DOT_PLAIN:
            return evaluator.dot_plain(operands, map(constants.plaintext, op.constants))
        if op.kind is OpKind.DOT_SCALARS:
            return evaluator.dot_plain(operands, (constants.scalar(op.constant, at) for at in op.positions))
        if op.kind is OpKind.ADD:
            return evaluator.add(*operands)
        if op.kind is OpKind.RESCALE:
            return evaluator.rescale(operands[0])
        if op.kind is OpKind.SANITIZE:
            return server.sanitize(
                operands[0],
                encoding=self._plan.program.encoding,
                flood_bits=constants.report.flood_bits[value],
                mask_bits=constants.report.mask_bits.get(value, 0),
                keep=op.positions or None,
            )
        if op.kind is OpKind.MASK:
            return self._masks.hide(server, op.constant, operands[0])
        if op.kind is OpKind.UNMASK:
            return self._masks.take_off(server, op, operands[0], constants.factor(op.constant))
        raise AssertionError(f"no round has an operation {op.kind.value}")
