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
        summary="Diagonals through the rank with baby and giant steps; the default, for private weights.",
    )
    yield PackingSpec(
        name="zero_moai",
        target="helora_core.packing.zero_moai:ZeroMOAI",
        summary="No rotations: the client sums after decryption. Only where the key holder owns the adapter.",
    )
