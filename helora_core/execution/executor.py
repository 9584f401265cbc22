"""Executes a plan's program: one loop over its operations, on whatever the evaluator calls a ciphertext."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from helora_core.backend.protocol import Ciphertext
from helora_core.backend.session import ServerSession
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput
from helora_core.execution.constants import EncodedConstants
from helora_core.execution.interactive import Masks

AskClient = Callable[[Sequence[Ciphertext]], Ciphertext]


def _nobody(ciphertexts: Sequence[Ciphertext]) -> Ciphertext:
    raise InvalidInput(
        "The program asks the client in between, and no client was given.",
        hint="Run it through helora_core.parties.module_run.run_module, which plays both sides.",
    )


def execute(
    plan: Plan,
    server: ServerSession,
    inputs: Sequence[Ciphertext],
    constants: EncodedConstants,
    *,
    ask_client: AskClient = _nobody,
) -> list[Ciphertext]:
    """Run the plan's program and return its outputs, dropping each ciphertext after its last use.

    Args:
        plan: The plan.
        server: The session to compute in.
        inputs: One ciphertext for each vector of ``plan.pack``, in order.
        constants: The module's weights, encoded for this plan and server.
        ask_client: Sends ciphertexts to the client and brings its answer, for plans of several rounds.

    Raises:
        InvalidInput: The number of inputs is not the program's.
        MissingRotationKey, ForeignCiphertext, …: As the evaluator's operations raise them.
    """
    program, evaluator = plan.program, server.evaluator
    if len(inputs) != len(program.inputs):
        raise InvalidInput(
            f"The program takes {len(program.inputs)} ciphertexts and was given {len(inputs)}.",
            hint="Send every ciphertext that plan.pack gave, in order.",
        )
    waiting = iter(inputs)
    live: dict[int, Ciphertext] = {}
    masks = Masks(plan, server)
    hoisted = {group[0]: group for group in program.hoisted_groups()}
    for i, (op, freed) in enumerate(zip(program.ops, program.last_reads(), strict=True)):
        operands = [live[arg] for arg in op.args]
        if op.kind is OpKind.INPUT:
            live[i] = next(waiting)
        elif op.kind is OpKind.ROTATE:
            if i in hoisted:
                steps = [program.ops[each].steps for each in hoisted[i]]
                live |= zip(hoisted[i], evaluator.rotate_many(operands[0], steps), strict=True)
        elif op.kind is OpKind.MULTIPLY_PLAIN:
            live[i] = evaluator.multiply_plain(operands[0], constants.plaintext(op.constant))
        elif op.kind is OpKind.DOT_PLAIN:
            live[i] = evaluator.dot_plain(operands, map(constants.plaintext, op.constants))
        elif op.kind is OpKind.DOT_SCALARS:
            live[i] = evaluator.dot_plain(operands, (constants.scalar(op.constant, at) for at in op.positions))
        elif op.kind is OpKind.ADD:
            live[i] = evaluator.add(*operands)
        elif op.kind is OpKind.RESCALE:
            live[i] = evaluator.rescale(operands[0])
        elif op.kind is OpKind.SANITIZE:
            live[i] = server.sanitize(
                operands[0],
                encoding=program.encoding,
                flood_bits=constants.report.flood_bits[i],
                mask_bits=constants.report.mask_bits.get(i, 0),
                keep=op.positions or None,
            )
        elif op.kind is OpKind.MASK:
            live[i] = masks.hide(op.constant, operands[0])
        elif op.kind is OpKind.ASK_CLIENT:
            live[i] = ask_client(operands)
        elif op.kind is OpKind.UNMASK:
            live[i] = masks.take_off(op, operands[0], constants.factor(op.constant))
        del operands
        for value in freed:
            del live[value]
    return [live[output] for output in program.results]
