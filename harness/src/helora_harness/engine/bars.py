"""The bars that ``helora-rns`` is held to, as data, and what it means to hold one.

Their source is the design of the engine (docs/engine.md): medians of ratios that were taken in one process, one thread
unless said otherwise, against SEAL through TenSEAL at the same N and data limbs; for whole plans each side's best.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

import msgspec

AVX512, AVX2 = "avx512ifma", "avx2"


class Sense(str, Enum):
    """Which side of a bar is good."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One figure with its bars.

    Attributes:
        name: Short and unique; ``--only`` takes it.
        group: What is measured together.
        work: The work, in words.
        peer: What it is compared with; empty for absolute figures.
        unit: Of the figure; ``x`` for a ratio.
        sense: Whether the bar is the least or the most.
        avx512: The bar for AVX-512 IFMA; None if there is none.
        avx2: The bar for AVX2 with FMA.
        moonshot: What would be better still.
        least_bits: Bits of max|Δ| that a whole plan must keep, too.
    """

    name: str
    group: str
    work: str
    peer: str = ""
    unit: str = "x"
    sense: Sense = Sense.AT_LEAST
    avx512: float | None = None
    avx2: float | None = None
    moonshot: float | None = None
    least_bits: float | None = None

    def of(self, kernels: str) -> float | None:
        """The bar for a kernel set; the sets that no bar is meant for have none."""
        return {AVX512: self.avx512, AVX2: self.avx2}.get(kernels)


SEAL, ONE = "SEAL", "one token, sanitised, client + server"
_MOST = Sense.AT_MOST

AHEAD = ("576:768:16", "1536:1536:32", "4096:4096:16")
"""Shapes of modules whose work is done ahead of time."""


def _operation(name: str, work: str, avx512: float, avx2: float, moonshot: float) -> Bar:
    return Bar(name=name, group="operations", work=work, peer=SEAL, avx512=avx512, avx2=avx2, moonshot=moonshot)


def _cheetah(name: str, how: str, bar: float, moonshot: float | None = None) -> Bar:
    return Bar(
        name=name, group="cheetah", work=f"cheetah, down of 1536, rank 32, {how}", peer="zero_moai, SEAL, N=16384",
        avx512=bar, avx2=bar, moonshot=moonshot, least_bits=12,
    )  # fmt: skip


def _ntt(ring_degree: int, most_us: float) -> Bar:
    return Bar(
        name=f"ntt-{ring_degree}", group="ntt", work=f"NTT, a limb at N={ring_degree}", unit="us", sense=_MOST,
        avx512=most_us,
    )  # fmt: skip


def _vfhe(name: str, work: str) -> Bar:
    return Bar(name=f"vfhe-{name}", group="vfhe", work=work, peer="vfhe", avx512=1, avx2=1)


def _ahead(shape: str, ring_degree: int, most_us: float, moonshot: float | None) -> Bar:
    return Bar(
        name=f"ahead-{shape.split(':')[0]}-{ring_degree}", group="ahead", unit="us", sense=_MOST,
        work=f"precomputed {shape}, N={ring_degree}: ahead of time, client + server, a token",
        avx512=most_us, avx2=most_us, moonshot=moonshot,
    )  # fmt: skip


BARS: tuple[Bar, ...] = (
    _operation("encrypt", "encode + encrypt, symmetric", 10, 5, 20),
    _operation("ct-pt", "ct×pt, encoded", 8, 4, 15),
    _operation("rescale", "rescale", 5, 3, 9),
    _operation("rotate", "rotate", 6, 4, 9),
    _operation("hoisted", "8 hoisted rotations, each finished", 9, 5, 18),
    _operation("decrypt", "decrypt + decode", 10, 5, 20),
    Bar(
        name="sanitize", group="sanitize", work="sanitise one result: N=8192, 3 limbs, 40 bits", peer="SEAL, by helora",
        avx512=12, avx2=6, moonshot=20,
    ),
    Bar(name="sanitize-pool", group="sanitize", work="the same, from a pool", peer="SEAL, by helora"),
    Bar(
        name="rank-bsgs", group="rank-bsgs", work=f"rank_bsgs 1536:1536:16, {ONE}", peer="TenSEAL's best plan",
        avx512=10, avx2=7, moonshot=20, least_bits=12,
    ),
    _cheetah("cheetah", "as it is", 200, 400),
    _cheetah("cheetah-pool", "re-randomised from a pool", 100),
    _cheetah("cheetah-no-pool", "re-randomised", 35),
    Bar(
        name="two-round", group="two-round", work=f"cheetah_two_round 1536:1536:16, {ONE}", unit="ms", sense=_MOST,
        avx512=0.4, avx2=0.4, moonshot=0.2, least_bits=12.5,
    ),
    Bar(
        name="adapter", group="adapter", work="all 60 modules of the bundled adapter, one decoded token, sanitised",
        unit="ms", sense=_MOST, avx512=45, avx2=45, moonshot=15, least_bits=12,
    ),
    Bar(name="adapter-ratio", group="adapter", work="the same", peer="TenSEAL's best plans"),
    Bar(
        name="cpmm", group="cpmm", work="cpmm, 2048 tokens or more, 1536:1536:32, server", peer="NumPy, float64",
        unit="x its time", sense=_MOST, avx512=1.5, avx2=5, moonshot=0.5, least_bits=12,
    ),
    Bar(
        name="cpmm-flooded", group="cpmm", work="the same, sanitised", peer="NumPy, float64", unit="x its time",
        sense=_MOST, avx512=2.5, avx2=5, least_bits=12,
    ),
    Bar(
        name="bytes-up", group="bytes", work="bytes up: rank_bsgs 576:768:16, one token, sanitised", unit="KB",
        sense=_MOST, avx512=150, avx2=150, moonshot=15,
    ),
    Bar(
        name="bytes-down", group="bytes", work="bytes down: the same", unit="KB", sense=_MOST, avx512=75, avx2=75,
        moonshot=20,
    ),
    _ahead(AHEAD[0], 8192, 60, 36),
    _ahead(AHEAD[0], 4096, 45, 25),
    _ahead(AHEAD[1], 8192, 150, 90),
    _ahead(AHEAD[2], 8192, 380, 230),
    Bar(
        name="online-server", group="online", work=f"precomputed {AHEAD[0]}: online, server's arithmetic, a token",
        unit="us", sense=_MOST, avx512=2, avx2=2, moonshot=0.8,
    ),
    Bar(
        name="online-bytes", group="online", work="online bytes, both messages, the same", unit="KB", sense=_MOST,
        avx512=7, avx2=7,
    ),
    Bar(
        name="online-adapter", group="online-adapter", unit="ms", sense=_MOST, avx512=1.5, avx2=1.5, moonshot=0.3,
        work="precomputed, all 60 modules of the bundled adapter, one token online, by the parties' messages",
        least_bits=14,
    ),
    Bar(
        name="online-outlier", group="online-adapter", unit="ms", sense=_MOST, work="the same, one channel 300 times",
        least_bits=14,
    ),
    Bar(
        name="ahead-best", group="ahead-best", work=f"precomputed {AHEAD[0]}, amortised total, a token",
        peer="our best plan online", avx512=15, avx2=15, moonshot=50,
    ),
    _ntt(2048, 1.5),
    _ntt(4096, 3.2),
    _ntt(8192, 6.8),
    _vfhe("ntt", "NTT of three limbs, N=8192"),
    _vfhe("product", "product of polynomials, three limbs"),
    _vfhe("rescale", "rescale"),
    _vfhe("rotate", "rotate"),
)  # fmt: skip
"""Every row of the table, in its order."""

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(bar.group for bar in BARS))


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured for a bar, or why nothing was.

    Attributes:
        bar: Its name.
        value: The median, in the bar's unit; None if it did not run.
        least: The smallest of all rounds.
        most: The largest.
        rounds: How many there were.
        ours_ms: Our median time, for what was timed.
        theirs_ms: The peer's.
        bits: Bits of max|Δ| that were left, of whole plans.
        note: What else there is to know: ring, split of the time, the peer's kernels.
        skipped: Why it did not run.
    """

    bar: str
    value: float | None = None
    least: float | None = None
    most: float | None = None
    rounds: int = 0
    ours_ms: float | None = None
    theirs_ms: float | None = None
    bits: float | None = None
    note: str = ""
    skipped: str = ""


def held(bar: Bar, figure: Figure, kernels: str) -> bool | None:
    """Whether the kernel set that ran holds the bar; None if it did not run, or there is no bar for the set."""
    limit = bar.of(kernels)
    if figure.value is None or limit is None:
        return None
    within = figure.value >= limit if bar.sense is Sense.AT_LEAST else figure.value <= limit
    return within and (bar.least_bits is None or (figure.bits is not None and figure.bits >= bar.least_bits))


def verdict(bar: Bar, figure: Figure, kernels: str) -> str:
    """``held``, ``MISSED`` with by how much, ``no bar`` or ``not run``."""
    if figure.value is None:
        return "not run"
    limit = bar.of(kernels)
    if limit is None:
        return "no bar"
    if held(bar, figure, kernels):
        return "held"
    short = figure.value / limit if bar.sense is Sense.AT_LEAST else limit / figure.value
    if short >= 1:
        known = "unknown" if figure.bits is None else f"{figure.bits:.1f}"
        return f"MISSED: {known} bits"
    return f"MISSED: {short:.0%}"


def chosen(only: Sequence[str]) -> list[Bar]:
    """The bars whose name or group is one of these; all if there are none.

    Raises:
        KeyError: There is none of a name.
    """
    known = {bar.name for bar in BARS} | set(GROUPS)
    for name in only:
        if name not in known:
            raise KeyError(name)
    return [bar for bar in BARS if not only or bar.name in only or bar.group in only]


def completed(bars: Iterable[Bar], figures: Iterable[Figure], reason: str) -> list[Figure]:
    """A figure for every bar, in their order: where there is none, one that says why."""
    found = {each.bar: each for each in figures}
    return [found.get(bar.name) or Figure(bar=bar.name, skipped=reason) for bar in bars]
