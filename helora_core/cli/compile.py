"""``helora compile``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options

if TYPE_CHECKING:
    from helora_core.artifact.write import Written
    from helora_core.compiler.compiled import CompiledModule
    from helora_core.planning.savings import SharedInput


@click.command()
@options.adapter(required=True)
@options.module
@click.option(
    "--out",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory to write, which must not exist yet.",
)
@click.option("--force", is_flag=True, help="Replace an existing artifact at --out.")
@options.tokens("as few as a run can have")
@options.execution
@options.wide
@options.as_json
def compile(
    adapter_path: Path,
    module_name: str,
    target: Path,
    force: bool,
    tokens: tuple[int, ...],
    execution: options.Execution,
    as_json: bool,
) -> None:
    """Write all that a server needs to run without the adapter.

    Plans, parameters, and the weights as the plaintexts that the plans multiply by, with the SHA-256 of every file.
    Equal inputs give equal bytes. `helora run --artifact DIR` runs it. The weights in it can be read: it is as secret
    as the adapter.
    """
    from helora_core.artifact.place import taking_the_place
    from helora_core.artifact.write import fill
    from helora_core.cli.output import print_json, progress, tell_zeros, warn_of_security, working

    with taking_the_place(target, replace=force) as unfinished:  # before the work, which may take long
        with working("compiling plans"):
            modules, shared = _compiled(adapter_path, module_name, tokens, execution)
        with progress("plaintexts", sum(len(compiled.plan.constant_specs) for compiled in modules)) as advance:
            written = fill(unfinished, modules, advance)
    if as_json:
        print_json(_document(target, modules, written, shared))
    else:
        _show(_document(target, modules, written, shared))
    tell_zeros(list(dict.fromkeys(compiled.name for compiled in modules if compiled.plan.is_zero)))
    warn_of_security(compiled.plan for compiled in modules)


def _compiled(
    adapter_path: Path, module_name: str, tokens: tuple[int, ...], execution: options.Execution
) -> tuple[list[CompiledModule], dict[str, tuple[SharedInput, ...]]]:
    """The modules with their plans, and the savings of shared inputs."""
    from helora_core.adapter.load import load_adapter
    from helora_core.compiler.requirements import require_storable
    from helora_core.parties.compile import asked_of, compiled_modules
    from helora_core.parties.compiled_lora import shared_inputs

    modules = load_adapter(adapter_path).select(module_name)
    asked = asked_of(modules, share=execution.share, storable=True, **execution.wishes(tokens))
    compiled, backend, _ = compiled_modules(asked)
    for each in compiled:
        require_storable(each.plan)
    return compiled, shared_inputs(compiled, {each.name: each.parts_alone(backend) for each in asked})


def _document(
    target: Path, modules: list[CompiledModule], written: Written, shared: dict[str, tuple[SharedInput, ...]]
) -> dict[str, Any]:
    from helora_core.compiler.key_sets import key_sets
    from helora_core.compiler.sizes import one_key_bytes

    manifest, keys = written.manifest, key_sets([each.plan for each in modules])
    savings = {name: iter(each) for name, each in shared.items()}
    rows = [
        {
            "module": entry.name,
            "parts": [part.name for part in entry.parts],
            "shape": str(compiled.plan.shape),
            "packing": compiled.plan.packing.name,
            "tokens": compiled.plan.tokens,
            "tokens_per_run": compiled.plan.tokens_per_run,
            "sanitize_bits": compiled.plan.sanitize_bits,
            "constants": len(compiled.plan.constant_specs),
            "file": entry.constants,
            "bytes": manifest.files[entry.constants].bytes,
            "digest": entry.plan,
            **(next(savings[entry.name]).to_dict() if entry.name in savings else {}),
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
        "key_sets": len(keys),
        "key_bytes_estimate": sum(len(each.rotation_steps) * one_key_bytes(each.params) for each in keys),
        "modules": rows,
    }


def _show(document: dict[str, Any]) -> None:
    from helora_core.cli.output import counted, print_table, size
    from helora_core.cli.tables import BEGINNINGS, Column, Table
    from helora_core.cli.terminal import say

    columns = [
        Column("module"), Column("shape"), Column("packing"), Column("tokens/run", number=True),
        Column("plaintexts", number=True), Column("size", size, number=True, measured=True), Column("plan"),
    ]  # fmt: skip
    rows = [
        (row["module"], row["shape"], row["packing"], row["tokens_per_run"], row["constants"], row["bytes"],
         row["digest"][:12])
        for row in document["modules"]
    ]  # fmt: skip
    print_table(Table(columns, rows, spare=("plan", "plaintexts", BEGINNINGS, "shape", "tokens/run"), names="module"))
    for line in _saved(document["modules"]):
        say(line, hanging=2)
    sets = counted(document["key_sets"], "key set")
    say(f"{counted(document['plans'], 'plan')} under {sets}, {size(document['key_bytes_estimate'])} of rotation keys")
    click.echo(f"wrote {document['output']}: {counted(document['files'], 'file')}, {size(document['bytes'])}")
    click.echo(f"artifact {document['artifact_digest']}")


def _saved(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The savings of shared inputs over all modules, for each number of tokens with plans."""
    from helora_core.cli.output import amount, size

    for tokens in dict.fromkeys(row["tokens"] for row in rows if "saved" in row):
        saved = [row["saved"] for row in rows if "saved" in row and row["tokens"] == tokens]
        encryptions, up = (sum(each[key] for each in saved) for key in ("encryptions_per_token", "bytes_up_per_token"))
        which = "" if tokens is None else f", of {tokens} run together"
        yield f"shared inputs save {amount(encryptions)} encryptions and {size(up)} of upload per token{which}"
