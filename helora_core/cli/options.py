"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

DEFAULT_BACKEND = "tenseal"
DEFAULT_PACKING = "rank_bsgs"

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

as_json: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
packing: Decorator = click.option(
    "--packing",
    default=DEFAULT_PACKING,
    show_default=True,
    metavar="NAME",
    help="Packing strategy (`helora packings`).",
)
backend: Decorator = click.option(
    "--backend", default=DEFAULT_BACKEND, show_default=True, metavar="NAME", help="CKKS backend (`helora backends`)."
)
ring: Decorator = click.option(
    "--ring", type=int, metavar="N", help="Ring degree; by default the smallest that is secure and precise enough."
)
min_bits: Decorator = click.option(
    "--min-bits", type=float, default=12.0, show_default=True, metavar="BITS",
    help="Precision to insist on, relative to max|Δ|.",
)  # fmt: skip
security: Decorator = click.option(
    "--security",
    type=click.Choice(["128", "192", "256"]),
    default="128",
    show_default=True,
    help="Security level in bits.",
)


def adapter(*, required: bool) -> Decorator:
    """The option that names an adapter."""
    return click.option(
        "--adapter", "adapter_path", required=required, type=click.Path(path_type=Path), metavar="PATH",
        help="PEFT directory or .npz file.",
    )  # fmt: skip


module: Decorator = click.option(
    "--module", "module_name", default="all", show_default=True, metavar="NAME",
    help="A module's name or its ending (`q_proj`, `layers.3.self_attn.q_proj`), with shell wildcards, or all.",
)  # fmt: skip
