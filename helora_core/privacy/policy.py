"""Whether a plan may run where the adapter's weights are private: the strict default.

Weights are private from the key holder if its decrypted results show Δ alone (or what is uniformly masked), and if the
results are sanitised, since the polynomials of a bare result give the plaintext factors away.
"""

from __future__ import annotations

from collections.abc import Sequence

from helora_core.errors import LeakageRefused
from helora_core.privacy.leakage import Leakage, LeakageClass

DEFAULT_SANITIZE_BITS = 40
"""Statistical distance, in bits, between what a result holds beyond Δ of the weights as they are rounded to
plaintexts, and noise that does not depend on them."""


def keeps_weights_private(leakage: Leakage) -> bool:
    """Whether sanitised results show the key holder nothing of the weights beyond Δ."""
    return leakage.key_holder in (LeakageClass.NOTHING, LeakageClass.MASKED_Z)


def settled_sanitize_bits(private_weights: bool, asked: int | None) -> int | None:
    """To which distance results are sanitised: as asked, 40 bits by default for private weights, None for not at
    all.
    """
    if asked is None:
        return DEFAULT_SANITIZE_BITS if private_weights else None
    return asked or None


def require_private_weights(
    packing: str, leakage: Leakage, *, sanitize_bits: int | None, qualifying: Sequence[str] = ("rank_bsgs", "cpmm")
) -> None:
    """Refuse a plan that hands weights to the key holder.

    Args:
        packing: The strategy's name.
        leakage: What its results show.
        sanitize_bits: To which distance they are sanitised.
        qualifying: Names of the packings that could be used instead.

    Raises:
        LeakageRefused: By its results, or because they are sent as they are.
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
