"""Executes a program: one loop over its operations, on whatever the evaluator calls a ciphertext."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from helora_core.adapter.lora import LoRAModule
from helora_core.backend.ledger import MeteredEvaluator
from helora_core.backend.protocol import Ciphertext, Plaintext
from helora_core.backend.session import ServerSession
from helora_core.compiler.ir import OpKind, Program
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput


def encode_constants(plan: Plan, module: LoRAModule, server: ServerSession) -> dict[str, Plaintext]:
    """Encode the module's weights as the plan's plaintexts, once for all tokens.

    Raises:
        InvalidInput: The module has another shape than the plan.
    """
    if module.shape != plan.shape:
        raise InvalidInput(
            f"Module {module.name} has shape {module.shape}; the plan is for {plan.shape}.",
            hint="Compile a plan for this module's shape.",
        )
    encoded = {}
    for name, vector in plan.layout.constants(module):
        spec = plan.constant_specs.get(name)
        if spec is not None:
            encoded[name] = server.encode(vector, level=spec.level, scale_bits=spec.scale_bits)
    return encoded


def execute(
    program: Program,
    evaluator: MeteredEvaluator,
    inputs: Sequence[Ciphertext],
    constants: Mapping[str, Plaintext],
) -> list[Ciphertext]:
    """Run ``program`` and return its outputs, dropping each ciphertext after its last use.

    Raises:
        InvalidInput: The number of inputs is not the program's.
        MissingRotationKey, ForeignCiphertext, …: As the evaluator's operations raise them.
    """
    if len(inputs) != len(program.inputs):
        raise InvalidInput(
            f"The program takes {len(program.inputs)} ciphertexts and was given {len(inputs)}.",
            hint="Send every ciphertext that plan.pack gave, in order.",
        )
    waiting = iter(inputs)
    live: dict[int, Ciphertext] = {}
    for i, (op, freed) in enumerate(zip(program.ops, program.last_reads(), strict=True)):
        if op.kind is OpKind.INPUT:
            live[i] = next(waiting)
        elif op.kind is OpKind.ROTATE:
            live[i] = evaluator.rotate(live[op.args[0]], op.steps)
        elif op.kind is OpKind.MULTIPLY_PLAIN:
            live[i] = evaluator.multiply_plain(live[op.args[0]], constants[op.constant])
        elif op.kind is OpKind.ADD:
            live[i] = evaluator.add(live[op.args[0]], live[op.args[1]])
        else:
            live[i] = evaluator.rescale(live[op.args[0]])
        for value in freed:
            del live[value]
    return [live[output] for output in program.outputs]
