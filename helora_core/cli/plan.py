"""``helora plan``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli import options

if TYPE_CHECKING:
    from helora_core.cli.subjects import Subject
    from helora_core.compiler.plan import Plan
    from helora_core.compiler.plan_cache import PlanCache
    from helora_core.compiler.request import PlanRequest


@click.command()
@options.adapter(required=False)
@options.module
@click.option("--shape", metavar="D_IN:D_OUT:R", help="A module's shape, instead of an adapter, such as 1536:256:16.")
@click.option(
    "--model", metavar="NAME", shell_complete=options.models,
    help="The modules of a model, instead of an adapter, such as qwen2.5-1.5b.",
)  # fmt: skip
@options.tokens("as few as a run can have, filling it")
@options.execution
@click.option("--rings", is_flag=True, help="Compare ring degrees instead, with times measured on --backend.")
@click.option("--show", is_flag=True, help="Also print the program that the server executes.")
@click.option("--passes", is_flag=True, help="With --show: print it after each pass of the compiler that changes it.")
@options.wide
@options.as_json
def plan(
    adapter_path: Path | None,
    module_name: str,
    shape: str | None,
    model: str | None,
    tokens: tuple[int, ...],
    execution: options.Execution,
    rings: bool,
    show: bool,
    passes: bool,
    as_json: bool,
) -> None:
    """Show what a module costs and reveals.

    Operations, depth, exact rotation keys, parameters with their security, leakage, digest. Nothing is run, and no
    library for homomorphic encryption is needed. JSON is one object for --shape or a full module name, else a list.
    """
    from helora_core.cli.output import print_json, tell_zeros, working
    from helora_core.cli.subjects import subjects
    from helora_core.planning.compiling import plan_cache

    if sum(each is not None for each in (adapter_path, shape, model)) != 1:
        raise click.UsageError("Give one of --adapter PATH, --shape D_IN:D_OUT:R and --model NAME.")
    wanted = subjects(adapter_path, module_name, shape, model, share=execution.share)
    if rings:
        _compare_rings([each.request(execution) for each in wanted.values()], execution, as_json)
        return
    cache = plan_cache()
    counts: list[int | None] = [*sorted(set(tokens))] or [None]
    known: dict[object, list[dict[str, Any]]] = {}
    rows: list[dict[str, Any]] = []
    for name, each in wanted.items():
        with working(f"compiling plans for {each.shape}"):
            plans = cache.plans(each.request(execution, tokens))
            if each.key not in known:
                known[each.key] = [
                    _found(compiled, count, plans, each, execution, cache)
                    for compiled, count in zip(plans, counts, strict=True)
                ]
        for compiled, count, found in zip(plans, counts, known[each.key], strict=True):
            rows.append({"module": name or shape, **compiled.to_dict(tokens=count), **found})
            if show:
                rows[-1]["program"] = _program(compiled, each, passes=passes)
    if as_json:
        print_json(rows[0] if len(rows) == 1 and (shape or module_name in wanted) else rows)
    else:
        _print(rows)
    tell_zeros(list(dict.fromkeys(row["module"] for row in rows if row["is_zero"])))


def _found(
    plan: Plan,
    tokens: int | None,
    plans: tuple[Plan, ...],
    subject: Subject,
    execution: options.Execution,
    cache: PlanCache,
) -> dict[str, Any]:
    """Further facts about a plan: batches, and the sharing of its inputs and keys."""
    from helora_core.planning.savings import shared_input

    found: dict[str, Any] = {"batch_for_default_budget": _batch_for_default_budget(plan, subject.request(execution))}
    if len(subject.parts) > 1:
        found |= shared_input(plan, tokens, subject.parts_alone(execution), cache).to_dict()
    if len(plans) > 1:
        found["joint"] = _joint(plans)
    return found


def _joint(plans: tuple[Plan, ...]) -> dict[str, Any]:
    """The one key set of several plans."""
    from helora_core.compiler.key_sets import key_sets
    from helora_core.compiler.sizes import one_key_bytes

    own = {plan.digest: plan for plan in plans}
    (keys,) = key_sets(list(own.values()))
    return {
        "plans": list(own),
        "rotation_steps": list(keys.rotation_steps),
        "key_bytes_estimate": len(keys.rotation_steps) * one_key_bytes(keys.params),
        "key_bytes_apart_estimate": sum(plan.key_bytes for plan in own.values()),
    }


def _batch_for_default_budget(plan: Plan, request: PlanRequest) -> int | None:
    """Tokens that keep the default budget when run together; None if no number does within the size limits."""
    from helora_core.compiler.batch import smallest_batch
    from helora_core.compiler.limits import LARGEST_ALTERNATIVE, together_within
    from helora_core.errors import ProgramTooLarge
    from helora_core.planning.compiling import for_batches

    try:
        with together_within(LARGEST_ALTERNATIVE):
            enough = smallest_batch(for_batches(plan, request))
    except ProgramTooLarge:
        return None
    return None if enough is None else enough[0]


def _program(plan: Plan, subject: Subject, *, passes: bool) -> str:
    """The program as text; with ``passes``, after the packing emitted it and after each pass that changed it."""
    from helora_core.compiler.compile import lower
    from helora_core.compiler.ir import readable

    if not passes:
        return readable(plan.program)
    texts: list[str] = []
    before = None
    for step in lower(
        plan.layout, plan.packing, plan.settings, sanitize_bits=plan.sanitize_bits, module=subject.module
    ):
        changed = step.program != before
        texts.append(f"── {step.name}\n{readable(step.program)}" if changed else f"── {step.name}: nothing to do")
        before = step.program
    return "\n".join(texts)


def _compare_rings(requests: list[PlanRequest], execution: options.Execution, as_json: bool) -> None:
    from helora_core.cli.output import print_json, working
    from helora_core.cli.rings import print_rings, ring_rows
    from helora_core.errors import BackendUnavailable
    from helora_core.host.manager import get_manager
    from helora_core.planning.compiling import compile_plans
    from helora_core.planning.selection import select_backend

    manager = get_manager()
    try:
        name: str | None = select_backend(manager, execution.backend).name
    except BackendUnavailable:
        # Without a library there are no times to show; everything else is still valid.
        if execution.backend is not None:
            raise
        name = None
    library = manager.load_backend(name) if name else None
    shapes = {str(each.shape): replace(each, module=None) for each in requests}
    rows = []
    for shape, request in sorted(shapes.items()):
        with working(f"compiling and timing every ring for {shape}"):
            (plan,) = compile_plans(request)
            rows += ring_rows(request, plan.packing, backend=library)
    if as_json:
        print_json(rows)
    else:
        print_rings(rows, backend=name)


def _print(rows: list[dict[str, Any]]) -> None:
    from helora_core.cli.output import amount, field, print_table
    from helora_core.cli.tables import BEGINNINGS, Table
    from helora_core.cli.terminal import say

    numbers = (
        "N",
        "security",
        "tokens/run",
        "rotations",
        "ct×pt",
        "rescales",
        "depth",
        "rot/token",
        "keys",
        "budget from",
    )
    table = Table.of_text(
        ("module", "shape", "packing", *numbers, "leakage", "digest"),
        [
            (row["module"], f"{row['d_in']}:{row['d_out']}:{row['rank']}", row["packing"], str(row["ring_degree"]),
             _security(row), str(row["tokens_per_run"]), str(row["rotations"]), str(row["ct_pt"]),
             str(row["rescales"]), str(row["depth"]), amount(row["rotations_per_token"]),
             str(len(row["rotation_steps"])), _batch(row), row["leakage_label"], row["digest"][:12])
            for row in rows
        ],
        numbers=numbers,
        spare=("digest", "depth", "rescales", "ct×pt", "rot/token", "security", "budget from", "keys", "N",
               BEGINNINGS, "shape", "tokens/run"),
        names="module",
    )  # fmt: skip
    print_table(table)
    for digest, row in {row["digest"]: row for row in rows}.items():
        say(f"\nplan {digest}")
        field("parameters", _parameters(row))
        field("rotation steps", ", ".join(map(str, row["rotation_steps"])) or "none")
        field("leakage", row["leakage_note"] + _sanitize_note(row))
        for assumption in row["assumes"]:
            field("assumes", f"{assumption}: {_explained(assumption)}")
        field("default budget", f"{row['over_budget'] or 'kept'}{_fits(row)}")
        if "phases" in row:
            field("ahead of time", *_ahead(row["phases"]["offline"]))
            field("online", *_online(row["phases"]["online"]))
        if "separately" in row:
            field("shared input", _saved(row))
        if "joint" in row:
            field("key set", _one_key_set(row["joint"]))
        if "program" in row:
            click.echo("\n" + row["program"])


def _explained(assumption: str) -> str:
    from helora_core.privacy.leakage import Assumption

    return Assumption(assumption).explanation


def _ahead(phase: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{phase['correlations']} tokens a batch, in {phase['round_trips']} round trip: {phase['encrypts']} "
        f"encryptions, {phase['ct_pt']} products, {phase['decrypts']} decryptions",
        f"a token: {phase['bytes_up_per_token']} bytes up, {phase['bytes_down_per_token']} down, "
        f"{phase['kept_bytes_per_token']} kept by the client",
        f"statistical distance 2^-{phase['distance_bits']:.1f} a result, which adds up",
    )


def _online(phase: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{phase['round_trips']} round trip without encryption",
        f"a token: {phase['bytes_up_per_token']} bytes up, {phase['bytes_down_per_token']} down, "
        f"{phase['multiplications_per_token']} multiplications",
        f"an answer to an input chosen at will shows up to {phase['bits_per_query']:.0f} bits of each number of down·y",
    )


def _batch(row: dict[str, Any]) -> str:
    return "never" if row["batch_for_default_budget"] is None else f"{row['batch_for_default_budget']} tok"


def _fits(row: dict[str, Any]) -> str:
    batch = row["batch_for_default_budget"]
    return "" if batch is None else f" (within it from {batch} token{'s' * (batch > 1)} run together)"


def _saved(row: dict[str, Any]) -> str:
    from helora_core.cli.output import amount, size

    alone, saved = row["separately"], row["saved"]
    up, tokens = row["encrypts"] * row["runs"], row["tokens"]
    return (
        f"{amount(row['rotations_per_token'])} rotations per token instead of {amount(alone['rotations_per_token'])}, "
        f"{amount(up / tokens)} ciphertexts up instead of {amount(alone['encrypts_per_token'])}: "
        f"saves {amount(saved['encryptions_per_token'])} encryptions, {size(saved['bytes_up_per_token'])} of upload"
    )


def _one_key_set(joint: dict[str, Any]) -> str:
    from helora_core.cli.output import counted, size

    return (
        f"one for {counted(len(joint['plans']), 'plan')}, {len(joint['rotation_steps'])} rotations, "
        f"{size(joint['key_bytes_estimate'])} (apart {size(joint['key_bytes_apart_estimate'])})"
    )


def _security(row: dict[str, Any]) -> str:
    return f"{row['security_bits']} bits" if row["security_bits"] else "INSECURE"


def _parameters(row: dict[str, Any]) -> str:
    word = f"a word of {row['wrap_bits']} bits, " if "wrap_bits" in row else ""
    return (
        f"N={row['ring_degree']}, {word}data primes of {row['data_bits']} bits, special {row['special_bits']}, "
        f"log2(QP) = {row['modulus_bits']}; {_security(row)} by {row['security_table']} "
        f"(limit {row['security_limit_bits']})"
    )


def _sanitize_note(row: dict[str, Any]) -> str:
    if not row["needs_sanitize"]:
        return ""
    bits = row["sanitize_bits"]
    return f" Results are sanitised to {bits} bits." if bits else " NOT sanitised: does not hold (--sanitize BITS)."
