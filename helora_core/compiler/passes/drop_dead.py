"""Drop operations whose result reaches no output. An input that nothing depends on is not even sent."""

from __future__ import annotations

from helora_core.compiler.ir import Program, renumber


def drop_dead(program: Program) -> Program:
    """Remove what no output depends on."""
    live = program.needed()
    if len(live) == len(program.ops):
        return program
    return renumber(program, ((i, op) for i, op in enumerate(program.ops) if i in live), program.outputs)
