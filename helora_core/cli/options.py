"""Options that several commands share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from helora_core.compiler.cost import Budget
    from helora_core.planning.compiling import CompileOptions

DEFAULT_PACKING = "auto"

MOST_TOKENS = 1 << 31
"""More than anybody has at once, and few enough to count with."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

JSON_ASKED = "helora_core.cli.json"
"""Where the root context notes that refusals are wanted as JSON too."""


def _known_table(ctx: click.Context, param: click.Parameter, value: str) -> str:
    from helora_core.params.security import TABLES

    if value not in TABLES:
        raise click.BadParameter(f"there is no table {value!r}; choose from {', '.join(TABLES)}.", ctx, param)
    return value


def _note_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    ctx.find_root().meta[JSON_ASKED] = value
    return value


as_json: Decorator = click.option(
    "--json", "as_json", is_flag=True, is_eager=True, callback=_note_json, help="Print JSON."
)
packing: Decorator = click.option(
    "--packing", default=DEFAULT_PACKING, show_default=True, metavar="NAME",
    help="Packing strategy (`helora packings`); auto: the one predicted to be cheapest (`helora explain`).",
)  # fmt: skip
backend: Decorator = click.option(
    "--backend", envvar="HELORA_BACKEND", show_envvar=True, metavar="NAME",
    help="CKKS backend (`helora backends`); by default auto: the best that can run here.",
)  # fmt: skip
ring: Decorator = click.option(
    "--ring", type=int, envvar="HELORA_RING", show_envvar=True, metavar="N",
    help="Ring degree; by default the smallest that is secure and precise enough.",
)  # fmt: skip


def _number(ctx: click.Context, param: click.Parameter, value: float) -> float:
    # Whatever is held against NaN passes.
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is no number of bits.", ctx, param)
    return value


target_bits: Decorator = click.option(
    "--target-bits", type=click.FloatRange(min=0), callback=_number, default=14.0, show_default=True, metavar="BITS",
    help="Precision to choose parameters for, relative to the max|Δ| to be expected; some Δ are smaller.",
)  # fmt: skip
min_bits: Decorator = click.option(
    "--min-bits", type=click.FloatRange(min=0), callback=_number, default=12.0, show_default=True, metavar="BITS",
    help="Precision to insist on, relative to the max|Δ| that came out; below it nothing is written.",
)  # fmt: skip
security: Decorator = click.option(
    "--security", type=click.Choice(["128", "192", "256"]), default="128", show_default=True,
    help="Security level in bits.",
)  # fmt: skip
security_table: Decorator = click.option(
    "--security-table", default="guidelines-2024", show_default=True, metavar="NAME", callback=_known_table,
    help="Published table of secure parameters: guidelines-2024 or he-standard-2018; against quantum computers "
    "he-standard-2018-quantum or, stricter, adps16-quantum.",
)  # fmt: skip
private_weights: Decorator = click.option(
    "--private-weights/--no-private-weights", default=True, show_default=True,
    help="Refuse what shows weights to the key holder, and sanitise results; or let it learn them.",
)  # fmt: skip
sanitize: Decorator = click.option(
    "--sanitize", type=click.IntRange(0, 64), metavar="BITS",
    help="Re-randomise and flood results to this statistical distance; 40 for private weights, else 0: not at all.",
)  # fmt: skip
batch: Decorator = click.option(
    "--batch", type=click.IntRange(1, MOST_TOKENS), metavar="T",
    help="Tokens to run together, which the layout is chosen for; by default all there are.",
)  # fmt: skip
_rtt_ms: Decorator = click.option(
    "--rtt-ms", type=click.FloatRange(min=0), default=0.0, show_default=True, metavar="MS",
    help="Network round trip, which each message to the server and back is charged when packings are compared.",
)  # fmt: skip
share: Decorator = click.option(
    "--share", is_flag=True, help="Run modules of one layer that get the same input, as q, k and v, as one."
)
module: Decorator = click.option(
    "--module", "module_name", default="all", show_default=True, metavar="NAME",
    help="A module's name or its ending (`q_proj`, `layers.3.self_attn.q_proj`), with shell wildcards, or all.",
)  # fmt: skip
force: Decorator = click.option("--force", is_flag=True, help="Replace output files that are there already.")
_allow_emulation: Decorator = click.option(
    "--allow-emulation", is_flag=True, help="Let auto fall back to an emulation, which ENCRYPTS NOTHING."
)


_BUDGETS = {
    "rotations": "rotations per token", "keyswitches": "key switches per token", "rescales": "rescales per token",
    "bytes": "ciphertext bytes per token, up and down", "key-bytes": "bytes of rotation keys",
    "depth": "products that follow each other",
}  # fmt: skip
_budgets: list[Decorator] = [
    click.option(f"--max-{name}", type=click.FloatRange(min=0), metavar="X", help=f"Refuse plans of more {what}.")
    for name, what in _BUDGETS.items()
]


def adapter(*, required: bool) -> Decorator:
    """The option that names an adapter."""
    return click.option(
        "--adapter", "adapter_path", required=required, type=click.Path(path_type=Path), metavar="PATH",
        help="Directory of PEFT or MLX, or file: .safetensors of kohya or diffusers, .gguf, .npz.",
    )  # fmt: skip


@dataclass(frozen=True)
class Execution:
    """How to run work: what ``helora run`` and ``helora demo`` take alike."""

    backend: str | None
    packing: str
    ring: int | None
    security: str
    security_table: str
    target_bits: float
    min_bits: float
    private_weights: bool
    sanitize: int | None
    batch: int | None
    share: bool
    allow_emulation: bool
    rtt_ms: float
    max_rotations: float | None
    max_keyswitches: float | None
    max_rescales: float | None
    max_bytes: float | None
    max_key_bytes: float | None
    max_depth: float | None

    @property
    def budget(self) -> Budget:
        """The bounds that were asked for, and no others."""
        from helora_core.compiler.cost import Budget

        return Budget(**{name: getattr(self, f"max_{name}") for name in Budget.__struct_fields__})

    @property
    def compile_options(self) -> CompileOptions:
        """How the planner is asked."""
        from helora_core.planning.compiling import CompileOptions
        from helora_core.planning.planner import Constraints

        return CompileOptions(
            constraints=Constraints(
                private_weights=self.private_weights,
                sanitize_bits=self.sanitize_bits,
                budget=self.budget,
                rtt_ms=self.rtt_ms,
                target_bits=self.target_bits,
                ring_degree=self.ring,
                security_bits=int(self.security),
                table=self.security_table,
            ),
            backend=self.backend,
            packing=self.packing,
            allow_emulation=self.allow_emulation,
        )

    @property
    def secure_by(self) -> str:
        """Which security is asked for, in words."""
        return f"{self.security} bits of security by {self.security_table}"

    @property
    def sanitize_bits(self) -> int | None:
        """To which distance results are sanitised; None for not at all."""
        from helora_core.privacy.policy import settled_sanitize_bits

        return settled_sanitize_bits(self.private_weights, self.sanitize)


def execution(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of ``Execution``, and pass them as the one argument ``execution``."""

    @functools.wraps(command)
    def with_execution(**arguments: Any) -> Any:
        taken = {name: arguments.pop(name) for name in Execution.__dataclass_fields__}
        return command(execution=Execution(**taken), **arguments)

    decorated: Callable[..., Any] = with_execution
    for option in (
        *reversed(_budgets),
        _rtt_ms,
        _allow_emulation,
        share,
        batch,
        sanitize,
        private_weights,
        min_bits,
        target_bits,
        security_table,
        security,
        ring,
        packing,
        backend,
    ):
        decorated = option(decorated)
    return decorated
