"""Drop operations whose result reaches no output. An input that nothing depends on is not even sent."""

from __future__ import annotations

from helora_core.compiler.ir import Program, renumber


def drop_dead(program: Program) -> Program:
    """Remove what no output depends on."""
    live = set(program.results)
    for i in range(len(program.ops) - 1, -1, -1):
        if i in live:
            live.update(program.ops[i].args)
    if len(live) == len(program.ops):
        return program
    return renumber(program, ((i, op) for i, op in enumerate(program.ops) if i in live), program.outputs)
