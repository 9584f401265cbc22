"""How to split a sum over diagonals into baby and giant steps (Halevi and Shoup, CRYPTO 2018)."""

from __future__ import annotations

from helora_core.packing.costs import OperationCosts


def best_baby_steps(diagonals: int, *, sources: int, sinks: int, costs: OperationCosts) -> int:
    """The cheapest number of baby steps, a power of two that divides ``diagonals`` (itself a power of two).

    Every source ciphertext is rotated by each baby step except 0, in one hoisted group; every sink takes one rotation
    for each giant step except 0, of a sum that has to be decomposed itself, and divided before if it has rotations in
    it. Ties go to the split with more baby steps, since those can be hoisted.
    """

    def cost(baby_steps: int) -> float:
        rotation = costs.decompose + costs.key_product
        babies = rotation + (baby_steps - 2) * costs.key_product if baby_steps > 1 else 0.0
        giant = rotation + (costs.divide if baby_steps > 1 else 0.0)
        return sources * babies + sinks * (diagonals // baby_steps - 1) * giant

    splits = [1 << exponent for exponent in range(diagonals.bit_length() - 1, -1, -1)]
    return min(splits, key=cost)
