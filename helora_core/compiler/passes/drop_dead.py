"""Drop operations whose result reaches no output. Inputs stay: the client sends them."""

from __future__ import annotations

from helora_core.compiler.ir import OpKind, Program, renumber


def drop_dead(program: Program) -> Program:
    """Remove what no output depends on."""
    live = set(program.outputs)
    for i in range(len(program.ops) - 1, -1, -1):
        if i in live:
            live.update(program.ops[i].args)
    kept = ((i, op) for i, op in enumerate(program.ops) if i in live or op.kind is OpKind.INPUT)
    return renumber(program.slots, kept, program.outputs)
