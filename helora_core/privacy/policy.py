"""Whether a plan may run if the adapter's weights are private, which is the default.

Weights are private from the key holder if its decrypted results show only Δ (or uniformly masked values), and if the
results are sanitised, since the polynomials of a bare result give the plaintext factors away.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from helora_core.errors import LeakageRefused
from helora_core.privacy.leakage import Assumption, Leakage, LeakageClass

DEFAULT_SANITIZE_BITS = 40
"""Statistical distance, in bits, between the rest of a result (beside the Δ of the weights as rounded to plaintexts)
and noise that does not depend on the weights."""


def keeps_weights_private(leakage: Leakage) -> bool:
    """Whether sanitised results tell the key holder nothing about the weights beyond Δ."""
    return leakage.key_holder in (LeakageClass.NOTHING, LeakageClass.MASKED_Z)


def qualifies(leakage: Leakage, assume: Collection[Assumption]) -> bool:
    """Whether a packing keeps weights private on what is accepted."""
    return keeps_weights_private(leakage) and not set(leakage.assumes) - set(assume)


def settled_sanitize_bits(private_weights: bool, asked: int | None) -> int | None:
    """The bits to sanitise results to: as asked, by default 40 for private weights, and None for not at all."""
    if asked is None:
        return DEFAULT_SANITIZE_BITS if private_weights else None
    return asked or None


def require_private_weights(
    packing: str, leakage: Leakage, *, sanitize_bits: int | None, qualifying: Sequence[str] = ("rank_bsgs", "cpmm")
) -> None:
    """Refuse a plan that reveals weights to the key holder.

    Args:
        packing: The strategy's name.
        leakage: What its results reveal.
        sanitize_bits: The statistical distance, in bits, to which results are sanitised; None or 0 for not at all.
        qualifying: Names of the packings that could be used instead.

    Raises:
        LeakageRefused: The decrypted results reveal weights, or they need to be sanitised and are not.
    """
    if not keeps_weights_private(leakage):
        raise LeakageRefused(
            f"Packing {packing} does not keep weights private: {leakage.explanation}",
            hint=f"Use {' or '.join(qualifying)}; or, if the key holder owns the adapter, "
            "--no-private-weights (private_weights=False).",
        )
    if leakage.needs_sanitize and not sanitize_bits:
        raise LeakageRefused(
            f"Packing {packing}: results that are not sanitised give weights to a key holder who inspects ciphertexts.",
            hint=f"Sanitise them, as --sanitize {DEFAULT_SANITIZE_BITS} does, or allow it with "
            "--no-private-weights (private_weights=False).",
        )


def require_accepted(packing: str, leakage: Leakage, assume: Collection[Assumption]) -> None:
    """Refuse a plan whose privacy rests on an assumption that was not accepted.

    Args:
        packing: The strategy's name.
        leakage: What its results reveal, and on which assumptions.
        assume: The assumptions that the owner of the weights accepts.

    Raises:
        LeakageRefused: Names the assumption, what it means, and how it is accepted.
    """
    for assumption in leakage.assumes:
        if assumption not in assume:
            raise LeakageRefused(
                f"Packing {packing} keeps weights private only if {assumption.explanation}",
                hint=f"If you accept that of every client, say so with --assume {assumption.option} "
                f"(assume={{Assumption.{assumption.name}}}); otherwise use another packing, such as rank_bsgs.",
            )
