"""What got worse: a cell against itself, on one machine, from one commit that was measured to the next.

Counts and bytes are worse if they grew at all. Times are worse by over ``TIME``: two commits that are timed one after
the other differ by less for no reason. Precision is worse by over ``BITS``. No averages over cells: a cell that comes
or goes moves nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import msgspec

from helora_harness.export.view import by_series, place
from helora_harness.metrics import COUNTS
from helora_harness.rows import Row
from helora_harness.trends.annotations import Annotation

TIME = 1.15
BITS = 1.0
_TIMES = ("ms_per_token", "ahead_ms_per_token")
_EXACT = (
    *COUNTS.values(), "rotation_keys", "bytes_up_per_token", "bytes_down_per_token", "bytes_keys",
    "bytes_ahead_up_per_token", "bytes_ahead_down_per_token",
)  # fmt: skip
_WORKLOAD = ("rotations_per_token", "keyswitches_per_token", "ct_pt_per_token")


class Regression(msgspec.Struct, frozen=True, kw_only=True):
    """A metric of a cell that got worse.

    Attributes:
        metric: Its name.
        before: The row that it was better in.
        after: The next row of the cell on that machine.
        causes: What else changed between the two, in words; what did not, if nothing did.
        meant: What the annotation of that commit says, if there is one.
        mended: Whether the newest row of the cell is as good as ``before`` again.
    """

    metric: str
    before: Row
    after: Row
    causes: tuple[str, ...]
    meant: str
    mended: bool

    @property
    def ratio(self) -> float:
        """After over before; infinite if there was none before."""
        before = self.before.metrics[self.metric]
        return self.after.metrics[self.metric] / before if before else float("inf")


def regressions(rows: Iterable[Row], annotations: Sequence[Annotation] = ()) -> list[Regression]:
    """Every metric of every cell that got worse, newest commit first."""
    found = []
    for of_cell in by_series(rows).values():
        good = [row for row in of_cell if row.outcome == "ok"]
        for before, after in itertools.pairwise(good):
            for name in sorted({*before.metrics} & {*after.metrics}):
                if _worse(name, before, after):
                    meant = [each.text for each in annotations
                             if each.explains(after.provenance.commit, name, after.cell)]  # fmt: skip
                    found.append(
                        Regression(
                            metric=name,
                            before=before,
                            after=after,
                            causes=causes(before, after),
                            meant=" ".join(meant),
                            mended=name in good[-1].metrics and not _worse(name, before, good[-1]),
                        )
                    )
    return sorted(found, key=lambda each: (each.after.provenance.commit_date, each.ratio), reverse=True)


def _worse(name: str, before: Row, after: Row) -> bool:
    a, b = before.metrics[name], after.metrics[name]
    if name in _TIMES:
        return place(before) == place(after) and b > TIME * a
    if name == "lost_bits":
        return b > a + BITS
    return name in _EXACT and b > a


def causes(before: Row, after: Row) -> tuple[str, ...]:
    """What changed between two rows of a cell."""
    found = []
    for name in _WORKLOAD:
        if name in before.metrics and name in after.metrics and before.metrics[name] != after.metrics[name]:
            words = name.removesuffix("_per_token").replace("keyswitches", "key switches").replace("ct_pt", "ct×pt")
            found.append(f"{words} {before.metrics[name]:g} → {after.metrics[name]:g}")
    old, new = before.provenance, after.provenance
    if old.ring_degree != new.ring_degree:
        found.append(f"N {old.ring_degree} → {new.ring_degree}")
    if old.modulus_bits != new.modulus_bits:
        found.append(f"modulus {sum(old.modulus_bits)} → {sum(new.modulus_bits)} bits")
    if (old.library, old.library_version) != (new.library, new.library_version):
        found.append(f"{old.library} {old.library_version} → {new.library} {new.library_version}")
    if not found and old.plan_digest != new.plan_digest:
        found.append("another plan of the same counts and parameters")
    return tuple(found) or ("same plan, same library: the code, or the machine at that hour",)
