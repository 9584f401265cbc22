"""``helora compile``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options

if TYPE_CHECKING:
    from helora_core.artifact.write import Written
    from helora_core.compiler.compiled import CompiledModule
    from helora_core.compiler.plan import Plan


@click.command()
@options.adapter(required=True)
@options.module
@click.option(
    "--out",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory to write, which must not be there yet.",
)
@click.option("--force", is_flag=True, help="Replace the artifact that is at --out.")
@click.option(
    "--tokens",
    type=click.IntRange(1, options.MOST_TOKENS),
    metavar="T",
    help="Tokens that will be there to be run; by default as few as a run can have.",
)
@options.execution
@options.as_json
def compile(
    adapter_path: Path,
    module_name: str,
    target: Path,
    force: bool,
    tokens: int | None,
    execution: options.Execution,
    as_json: bool,
) -> None:
    """Write all that a server needs to run an adapter without it.

    Plans, parameters, and the weights as the plaintexts that the plans multiply by, with the SHA-256 of every file.
    Equal inputs give equal bytes. `helora run --artifact DIR` runs it. The weights in it can be read: it is as secret
    as the adapter.
    """
    from helora_core.artifact.place import taking_the_place
    from helora_core.artifact.write import fill
    from helora_core.cli.output import print_json, progress, tell_zeros, warn_of_security

    with taking_the_place(target, replace=force) as unfinished:  # before the work, which may take long
        modules = _compiled(adapter_path, module_name, tokens, execution)
        with progress("plaintexts", sum(len(compiled.plan.constant_specs) for compiled in modules)) as advance:
            written = fill(unfinished, modules, advance)
    if as_json:
        print_json(_document(target, modules, written))
    else:
        _show(_document(target, modules, written))
    tell_zeros([compiled.module.name for compiled in modules if compiled.plan.is_zero])
    warn_of_security(compiled.plan for compiled in modules)


def _compiled(
    adapter_path: Path, module_name: str, tokens: int | None, execution: options.Execution
) -> list[CompiledModule]:
    """The modules with their plans; modules of one shape and one pattern of zeros share theirs."""
    from helora_core.cli.subjects import subjects
    from helora_core.compiler.compiled import CompiledModule, Part
    from helora_core.compiler.requirements import require_storable
    from helora_core.planning.compiling import check_budget, on_best_machine, plan_compiler

    wanted = list(subjects(adapter_path, module_name, None, None, share=execution.share).values())
    together = execution.batch or tokens or 1
    wishes = replace(execution.compile_options, storable=True)
    wishes = on_best_machine(wishes, [(each.module, together) for each in wanted if each.module is not None])
    compile_shape = plan_compiler(wishes)
    plans: dict[object, Plan] = {}
    compiled = []
    for subject in wanted:
        if subject.module is None:
            continue
        if subject.key not in plans:
            plan = compile_shape(subject.shape, execution.batch or tokens, subject.module)
            check_budget(plan, tokens or plan.tokens_per_run, wishes, subject.module)
            require_storable(plan)
            plans[subject.key] = plan
        widths = zip(subject.names, subject.parts, strict=True)
        parts = tuple(Part(name=name, d_out=shape.d_out) for name, shape in widths)
        compiled.append(CompiledModule(subject.module, parts, plans[subject.key].for_module(subject.module)))
    return compiled


def _document(target: Path, modules: list[CompiledModule], written: Written) -> dict[str, Any]:
    manifest = written.manifest
    rows = [
        {
            "module": entry.name,
            "parts": [part.name for part in entry.parts],
            "shape": str(compiled.plan.shape),
            "packing": compiled.plan.packing.name,
            "tokens_per_run": compiled.plan.tokens_per_run,
            "sanitize_bits": compiled.plan.sanitize_bits,
            "constants": len(compiled.plan.constant_specs),
            "file": entry.constants,
            "bytes": manifest.files[entry.constants].bytes,
            "digest": entry.plan,
        }
        for entry, compiled in zip(manifest.modules, modules, strict=True)
    ]
    return {
        "output": str(target),
        "artifact_digest": written.digest,
        "schema": manifest.schema,
        "files": len(manifest.files) + 1,
        "bytes": written.bytes,
        "plans": len(manifest.plans),
        "modules": rows,
    }


def _show(document: dict[str, Any]) -> None:
    from helora_core.cli.output import print_table, size

    numbers = ("tokens/run", "plaintexts", "size")
    print_table(
        ("module", "shape", "packing", *numbers, "plan"),
        [
            (row["module"], row["shape"], row["packing"], str(row["tokens_per_run"]), str(row["constants"]),
             size(row["bytes"]), row["digest"][:12])
            for row in document["modules"]
        ],
        numbers=numbers,
    )  # fmt: skip
    click.echo(f"wrote {document['output']}: {document['files']} files, {size(document['bytes'])}")
    click.echo(f"artifact {document['artifact_digest']}")
