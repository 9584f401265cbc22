"""``halevi_shoup_bsgs``: diagonals of the merged matrix with baby and giant steps, about 2·sqrt(d) rotations.

Why it is here: it is the best known method for a dense matrix without structure, so its distance from ``rank_bsgs``
shows what the rank of a LoRA saves. It spends one level where ``rank_bsgs`` spends two, and needs a smaller modulus.

Layout, constants and giant steps are those of ``halevi_shoup``. With i = g·n + b, diagonal i is rotated back by its
giant step g·n alone:

    Δ_c = Σ_g rot( Σ_b' Σ_{b<n} rot(diag_{c,b',g·n+b}, −g·n) ∘ rot(x_b', b),  g·n )

over blocks b' of x. The n − 1 baby steps of a block are rotations of one ciphertext, which backends may hoist, and all
blocks of Δ share them; the giant steps follow Horner's rule, all with the step n, so with one key.

Cost: B(n−1) + B'(p/n−1) rotations, one key switch each, with n rotation keys; B·B'·p ct×pt; B' rescales; B ciphertexts
up and B' down; B·n + 2 ciphertexts alive. Leakage: nothing beyond Δ, for sanitised results.

Source: diagonals after Halevi and Shoup (CRYPTO 2014), baby and giant steps after Halevi and Shoup, *Faster homomorphic
linear transformations in HElib* (CRYPTO 2018).
"""

from __future__ import annotations

from helora_core.adapter.lora import ModuleShape
from helora_core.packing.baby_steps import best_baby_steps
from helora_core.packing.costs import OperationCosts
from helora_core.packing.halevi_shoup import HaleviShoup
from helora_core.packing.interleaved import blocks


class HaleviShoupBSGS(HaleviShoup):
    """The strategy: ``halevi_shoup`` with the cheapest number of baby steps. Depth and leakage are the same."""

    name = "halevi_shoup_bsgs"
    version = 1

    def _baby_steps(self, shape: ModuleShape, period: int, costs: OperationCosts) -> int:
        """n, the cheapest number: each block of x takes the baby steps, and each block of Δ the giant steps."""
        sources, sinks = blocks(shape.d_in, period), blocks(shape.d_out, period)
        return best_baby_steps(period, sources=sources, sinks=sinks, costs=costs)
