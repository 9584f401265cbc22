"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from helora_core.cli.groups import closest
from helora_core.cli.numbers import Real, Whole

if TYPE_CHECKING:
    from helora_core.compiler.request import Constraints
    from helora_core.privacy.leakage import Assumption

DEFAULT_PACKING = "auto"

MOST_TOKENS = 1 << 31
"""More than users have at once, and few enough to compute with."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

JSON_ASKED = "helora_core.cli.json"
"""Key under which the root context notes that errors are wanted as JSON too."""

WIDE = "helora_core.cli.wide"
"""Key under which it notes whether tables are wanted whole."""


def _names_of(kind: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Completes the names of backends or packings, for shells."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        from helora_core.host.manager import get_manager

        return [name for name in ("auto", *getattr(get_manager(), kind)()) if name.startswith(incomplete)]

    return complete


backends = _names_of("backends")
packing_names = _names_of("packings")


def _tables(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from helora_core.params.security import TABLES

    return [name for name in TABLES if name.startswith(incomplete)]


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Completes the names of models whose shapes are known."""
    from helora_core.adapter.synthetic import LLM_SHAPES

    return [name for name in LLM_SHAPES if name.startswith(incomplete)]


def _known_table(ctx: click.Context, param: click.Parameter, value: str) -> str:
    from helora_core.params.security import TABLES

    if value not in TABLES:
        raise click.BadParameter(f"there is no table {value!r}. {closest(value, list(TABLES))}", ctx, param)
    return value


def _note_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    ctx.find_root().meta[JSON_ASKED] = value
    return value


as_json: Decorator = click.option(
    "--json", "as_json", is_flag=True, is_eager=True, callback=_note_json, help="Print JSON."
)


def _note_wide(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.find_root().meta[WIDE] = value


wide: Decorator = click.option(
    "--wide", is_flag=True, expose_value=False, callback=_note_wide,
    help="Show every column and every row of tables, wider than the terminal if need be.",
)  # fmt: skip
packing: Decorator = click.option(
    "--packing", default=DEFAULT_PACKING, show_default=True, metavar="NAME", shell_complete=packing_names,
    help="Packing strategy (`helora packings`); auto: the one predicted to be cheapest (`helora explain`).",
)  # fmt: skip
backend: Decorator = click.option(
    "--backend", envvar="HELORA_BACKEND", show_envvar=True, metavar="NAME", shell_complete=backends,
    help="CKKS backend (`helora backends`); by default auto: the best that can run here.",
)  # fmt: skip
ring: Decorator = click.option(
    "--ring", type=int, envvar="HELORA_RING", show_envvar=True, metavar="N",
    help="Ring degree; by default the smallest that is secure and precise enough.",
)  # fmt: skip


def _assumptions(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> frozenset[Assumption]:
    from helora_core.privacy.leakage import Assumption

    known = {each.option: each for each in Assumption}
    for name in value:
        if name not in known:
            raise click.BadParameter(f"there is no assumption {name!r}. {closest(name, list(known))}", ctx, param)
    return frozenset(known[name] for name in value)


_TARGET_BITS = 14.0

target_bits: Decorator = click.option(
    "--target-bits", type=Real(min=0), show_default=f"{_TARGET_BITS:g}", metavar="BITS",
    help="Precision to choose parameters for, relative to the expected max|Δ|; some Δ are smaller. For packings that "
    "run ahead of time, whose precision is fixed, --min-bits unless it is given.",
)  # fmt: skip
min_bits: Decorator = click.option(
    "--min-bits", type=Real(min=0), default=12.0, show_default=True, metavar="BITS",
    help="Least precision, relative to the actual max|Δ|; below it nothing is written.",
)  # fmt: skip
security: Decorator = click.option(
    "--security", type=click.Choice(["128", "192", "256"]), default="128", show_default=True,
    help="Security level in bits.",
)  # fmt: skip
security_table: Decorator = click.option(
    "--security-table", default="guidelines-2024", show_default=True, metavar="NAME", callback=_known_table,
    shell_complete=_tables,
    help="Published table of secure parameters: guidelines-2024 or he-standard-2018; against quantum computers "
    "he-standard-2018-quantum or, stricter, adps16-quantum.",
)  # fmt: skip
private_weights: Decorator = click.option(
    "--private-weights/--no-private-weights", default=True, show_default=True,
    help="Refuse plans that show weights to the key holder, and sanitise results; or let it learn them.",
)  # fmt: skip
sanitize: Decorator = click.option(
    "--sanitize", type=Whole(0, 64), metavar="BITS",
    help="Re-randomise and flood results to this statistical distance; 40 for private weights, else 0: not at all.",
)  # fmt: skip
assume: Decorator = click.option(
    "--assume", multiple=True, metavar="WHAT", callback=_assumptions,
    help="Accept what a packing assumes of every client, such as honest-keys, which `precomputed` rests on.",
)  # fmt: skip
_rtt_ms: Decorator = click.option(
    "--rtt-ms", type=Real(min=0), default=0.0, show_default=True, metavar="MS",
    help="Network round trip, added for each message to the server and back when packings are compared.",
)  # fmt: skip
_ahead: Decorator = click.option(
    "--ahead", type=Whole(1, MOST_TOKENS), metavar="TOKENS",
    help="Tokens that will be used of what plans prepare ahead of time, when packings are compared; by default only "
    "those of the request.",
)  # fmt: skip
share: Decorator = click.option(
    "--share", is_flag=True, help="Run modules of one layer that get the same input, such as q, k and v, as one."
)
module: Decorator = click.option(
    "--module", "module_name", default="all", show_default=True, metavar="NAME",
    help="A module's name or its ending (`q_proj`, `layers.3.self_attn.q_proj`), which may have `*`, `?` or "
    "`{a,b}`; or all.",
)  # fmt: skip
force: Decorator = click.option("--force", is_flag=True, help="Replace existing output files.")
allow_emulation: Decorator = click.option(
    "--allow-emulation", is_flag=True, help="Let auto fall back to an emulation, which ENCRYPTS NOTHING."
)


_BUDGETS = {
    "rotations": "rotations per token", "keyswitches": "key switches per token", "rescales": "rescales per token",
    "bytes": "ciphertext bytes per token, up and down", "key-bytes": "bytes of rotation keys",
    "depth": "products that follow each other",
}  # fmt: skip
_budgets: list[Decorator] = [
    click.option(f"--max-{name}", type=Real(min=0), metavar="X", help=f"Refuse plans of more {what}.")
    for name, what in _BUDGETS.items()
]


class _Tokens(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic only in newer versions
    """Numbers of tokens, comma-separated."""

    name = "T[,T…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        one: click.ParamType = Whole(1, MOST_TOKENS)  # type: ignore[type-arg,unused-ignore]
        return tuple(one.convert(each.strip(), param, ctx) for each in str(value).split(","))


def tokens(which: str) -> Decorator:
    """The option for the numbers of tokens that will run together; ``which`` describes the default."""
    return click.option(
        "--tokens", type=_Tokens(), metavar="T[,T…]", default=(),
        help="Tokens to run together, which plans are chosen for; several numbers, as 1,64, give plans that share one "
        f"key set. By default {which}.",
    )  # fmt: skip


def adapter(*, required: bool) -> Decorator:
    """The option that names an adapter."""
    return click.option(
        "--adapter", "adapter_path", required=required, type=click.Path(path_type=Path), metavar="PATH",
        help="Directory of PEFT or MLX, or file: .safetensors of kohya or diffusers, .gguf, .npz.",
    )  # fmt: skip


@dataclass(frozen=True)
class Execution:
    """How modules are compiled and run, from the options of ``execution``.

    Attributes:
        constraints: The constraints on every plan.
        packing, backend, allow_emulation: As for ``PlanRequest``.
        min_bits: The least precision of results.
        share: Run modules that share an input as one.
    """

    constraints: Constraints
    packing: str
    backend: str | None
    allow_emulation: bool
    min_bits: float
    share: bool

    @classmethod
    def of(cls, given: dict[str, Any]) -> Execution:
        """From the options' values, by their names."""
        from helora_core.compiler.cost import Budget
        from helora_core.compiler.request import Constraints
        from helora_core.privacy.policy import settled_sanitize_bits

        target_bits = given["target_bits"]
        constraints = Constraints(
            private_weights=given["private_weights"],
            sanitize_bits=settled_sanitize_bits(given["private_weights"], given["sanitize"]),
            budget=Budget(**{name: given[f"max_{name}"] for name in Budget.__struct_fields__}),
            rtt_ms=given["rtt_ms"],
            ahead=given["ahead"],
            target_bits=_TARGET_BITS if target_bits is None else target_bits,
            fixed_bits=given["min_bits"] if target_bits is None else None,
            ring_degree=given["ring"],
            security_bits=int(given["security"]),
            table=given["security_table"],
            assume=given["assume"],
        )
        own = {name: given[name] for name in ("packing", "backend", "allow_emulation", "min_bits", "share")}
        return cls(constraints, **own)

    def wishes(self, tokens: tuple[int, ...] = ()) -> dict[str, Any]:
        """The arguments of a ``PlanRequest``, without its module."""
        return {
            "tokens": tokens,
            "constraints": self.constraints,
            "packing": self.packing,
            "backend": self.backend,
            "allow_emulation": self.allow_emulation,
        }

    @property
    def secure_by(self) -> str:
        """The security asked for, in words."""
        return f"{self.constraints.security_bits} bits of security by {self.constraints.table}"


_EXECUTION = (
    backend, packing, ring, security, security_table, target_bits, min_bits, private_weights, sanitize, assume, share,
    allow_emulation, _rtt_ms, _ahead, *_budgets,
)  # fmt: skip
_NAMES = (
    "backend", "packing", "ring", "security", "security_table", "target_bits", "min_bits", "private_weights",
    "sanitize", "assume", "share", "allow_emulation", "rtt_ms", "ahead",
    *(f"max_{name.replace('-', '_')}" for name in _BUDGETS),
)  # fmt: skip


def execution(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of ``Execution``, and pass them as the one argument ``execution``."""

    @functools.wraps(command)
    def with_execution(**arguments: Any) -> Any:
        given = {name: arguments.pop(name) for name in _NAMES}
        return command(execution=Execution.of(given), **arguments)

    decorated: Callable[..., Any] = with_execution
    for option in reversed(_EXECUTION):
        decorated = option(decorated)
    return decorated
