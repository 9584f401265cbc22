"""Core's own packings, registered through the same entry point and hook as a third party's."""

from __future__ import annotations

from collections.abc import Iterable

from helora_core.hookspecs import hookimpl
from helora_core.specs import PackingSpec


@hookimpl
def helora_packings() -> Iterable[PackingSpec]:
    """The packings that come with helora-core."""
    yield PackingSpec(
        name="rank_bsgs",
        target="helora_core.packing.rank_bsgs:RankBSGS",
        summary="Diagonals through the rank with baby and giant steps: for private weights, few tokens or many.",
    )
    yield PackingSpec(
        name="zero_moai",
        target="helora_core.packing.zero_moai:ZeroMOAI",
        summary="No rotations: the client sums after decryption. Only where the key holder owns the adapter.",
    )
    yield PackingSpec(
        name="cheetah",
        target="helora_core.packing.cheetah:Cheetah",
        summary="Inner products in coefficients, without rotations: the client reads down·x and applies up itself.",
    )
    yield PackingSpec(
        name="cpmm",
        target="helora_core.packing.cpmm:CPMM",
        summary="One ciphertext per feature, tokens in the slots: no rotations; for thousands of tokens at once.",
    )
    yield PackingSpec(
        name="halevi_shoup_bsgs",
        target="helora_core.packing.halevi_shoup_bsgs:HaleviShoupBSGS",
        summary="Diagonals of the merged matrix with baby and giant steps; one level.",
    )
    yield PackingSpec(
        name="halevi_shoup",
        target="helora_core.packing.halevi_shoup:HaleviShoup",
        summary="Every diagonal of the merged matrix: the baseline to compare with.",
    )
    yield PackingSpec(
        name="outer_product",
        target="helora_core.packing.outer_product:OuterProduct",
        summary="One inner product per rank row, broadcast by folds: the textbook method, to compare with.",
    )
    yield PackingSpec(
        name="cheetah_two_round",
        target="helora_core.packing.cheetah_two_round:CheetahTwoRound",
        summary="Inner products in two rounds: the client re-encrypts a perfectly masked down·x. For private weights.",
    )
    yield PackingSpec(
        name="precomputed",
        target="helora_core.packing.precomputed:Precomputed",
        summary="Encrypted work ahead of time, integers on one-time pads online. Assumes honest keys of clients.",
    )
    yield PackingSpec(
        name="precomputed_exact",
        target="helora_core.packing.precomputed:exact",
        summary="The same, flooded and rounded rather than cut: Δ is exactly the LoRA in integers.",
    )
