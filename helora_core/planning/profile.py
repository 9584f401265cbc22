"""The profile of a backend on one machine: the time of each operation by ring degree, chain and level, with provenance.

``helora calibrate`` writes it; predictions multiply its figures by the counts of a plan. The time of an operation
depends on the ring degree and the number of primes, but hardly on their lengths, since each residue takes a
machine word. A chain therefore stands for all with the same numbers of data and special primes at its ring degree.
"""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from helora_core import __version__
from helora_core.errors import ProfileMissing
from helora_core.params.ckks import CKKSParams

SCHEMA = 2
"""Increased when this version would misread files of older ones, or they would misread its files."""

OLDEST_SCHEMA = 1
"""The oldest that this version reads: without chains of plans that run ahead of time."""

FORMAT = "helora-profile"

_Time = Annotated[float, msgspec.Meta(ge=0, le=1e18)]
_Whole = Annotated[int, msgspec.Meta(ge=0, le=2**48)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**48)]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """The time of one call of an operation.

    Attributes:
        operation: Its name, as ``helora_core.planning.calibrate`` lists them.
        level: Level of its ciphertext or plaintext; the number of primes left is one more.
        median_ns: Median over the samples, nanoseconds.
        minimum_ns: Smallest of the samples, nanoseconds.
        samples: Number of samples; each is the mean of enough calls to last a millisecond.
    """

    operation: str
    level: _Whole
    median_ns: _Time
    minimum_ns: _Time
    samples: _Positive


class ChainFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The times on one chain of moduli.

    Attributes:
        ring_degree: N.
        data_bits: Bit lengths of the data primes, base prime first, as the library resolved them.
        special_bits: Likewise of the special primes.
        figures: One for each operation and level.
        wrap_bits: Bits of the wrap limb, of chains for plans that run ahead of time; 0 for none.
    """

    ring_degree: _Positive
    data_bits: Annotated[tuple[_Positive, ...], msgspec.Meta(min_length=1)]
    special_bits: tuple[_Positive, ...]
    figures: tuple[Figure, ...]
    wrap_bits: _Whole = 0

    def by_operation(self) -> dict[tuple[str, int], Figure]:
        """The figures by operation and level."""
        return {(figure.operation, figure.level): figure for figure in self.figures}


class RefusedChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain that the backend could not be timed on.

    Attributes:
        ring_degree, data_bits, special_bits, wrap_bits: The chain, as it was asked for.
        code: The refusal's code.
        reason: The refusal, in words.
    """

    ring_degree: int
    data_bits: tuple[int, ...]
    special_bits: tuple[int, ...]
    code: str
    reason: str
    wrap_bits: int = 0


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what a profile was made. It names a class of hardware, never a host.

    Attributes:
        backend: Name of the backend.
        library: The library that it drives, empty if none.
        library_version: The library's version, None if unknown.
        helora_version: Version of helora.
        python_version: Version of Python.
        architecture: The result of ``platform.machine``.
        cpu: The processor's model name, empty if unknown.
        cores: Cores that the process may use.
        threads: ``OMP_NUM_THREADS``, None if it was not set.
        date: Time of the measurement: ISO 8601, UTC, to the second.
        rounds: Rounds asked for.
        device: The device that the backend computed on, by the name of its kind; empty for the CPU.
    """

    backend: str
    library: str
    library_version: str | None
    helora_version: str
    python_version: str
    architecture: str
    cpu: str
    cores: int
    threads: str | None
    date: str
    rounds: int
    device: str = ""

    @classmethod
    def here(
        cls, backend: str, *, library: str, library_version: str | None, rounds: int, device: str = ""
    ) -> Provenance:
        """The provenance of a measurement on this machine now."""
        now = datetime.datetime.now(datetime.timezone.utc)
        return cls(
            backend=backend,
            library=library,
            library_version=library_version,
            helora_version=__version__,
            python_version=platform.python_version(),
            architecture=platform.machine(),
            cpu=_cpu_model(),
            cores=_cores(),
            threads=os.environ.get("OMP_NUM_THREADS"),
            date=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            rounds=rounds,
            device=device,
        )

    def differences(self, other: Provenance) -> tuple[str, ...]:
        """Names of the attributes that differ and may change a figure: all but the date and the rounds.

        Times of profiles that differ in these must not be compared or used to predict each other's runs.
        """
        return tuple(
            name
            for name in self.__struct_fields__
            if name not in ("date", "rounds") and getattr(self, name) != getattr(other, name)
        )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A calibration: figures by chain, operation and level, and where they come from.

    Attributes:
        provenance: Machine, library and versions.
        chains: The chains that were timed.
        refused: Chains that the backend or the security table refused, with the reasons.
        format: Marks the file as a profile.
        schema: Version of the file's structure.
    """

    provenance: Provenance
    chains: tuple[ChainFigures, ...]
    refused: tuple[RefusedChain, ...] = ()
    format: Literal["helora-profile"] = "helora-profile"
    schema: int = SCHEMA

    def chain(self, params: CKKSParams) -> ChainFigures:
        """The chain with the same ring degree, numbers of primes of each kind and wrap limb or none, the closest in
        bit lengths.

        Raises:
            ProfileMissing: There is no such chain.
        """
        alike = [chain for chain in self.chains if _class_of(chain) == _class_of(params)]
        if alike:
            return min(alike, key=lambda chain: _distance(chain, params))
        has = ", ".join(sorted({_named(chain) for chain in self.chains})) or "nothing"
        raise ProfileMissing(
            f"The profile of {self.provenance.backend} was not calibrated for {_named(params)}; it has {has}.",
            hint=self._calibrate(params),
        )

    def figure(self, operation: str, params: CKKSParams, level: int | None = None) -> Figure:
        """The time of an operation.

        Args:
            operation: Its name.
            params: Ring and chain; of the chain, only the numbers of primes count.
            level: Its level; None for the highest, which is the only one for encryptions and for the
                embedding (that does not depend on it).

        Raises:
            ProfileMissing: It was not timed.
        """
        level = params.max_level if level is None else level
        found = self.chain(params).by_operation().get((operation, level))
        if found is None:
            raise ProfileMissing(
                f"The profile of {self.provenance.backend} has no time for {operation} with {level + 1} primes left, "
                f"for {_named(params)}.",
                hint=self._calibrate(params),
            )
        return found

    def _calibrate(self, params: CKKSParams) -> str:
        return (
            f"Run helora calibrate --backend {self.provenance.backend} --ring {params.ring_degree} --force; for a "
            "chain that this does not cover, or an operation that the backend lacks, choose other parameters or "
            "another backend."
        )


def _class_of(chain: ChainFigures | CKKSParams) -> tuple[int, int, int, int]:
    return chain.ring_degree, len(chain.data_bits), len(chain.special_bits), chain.wrap_bits


def _distance(chain: ChainFigures, params: CKKSParams) -> tuple[bool, int, int]:
    """By whether keys can be switched at all; by the data primes, which every operation uses; then by the rest."""
    data = sum(abs(a - b) for a, b in zip(chain.data_bits, params.data_bits, strict=True))
    special = sum(abs(a - b) for a, b in zip(chain.special_bits, params.special_bits, strict=True))
    return _switches_keys(chain) != _switches_keys(params), data, special


def _switches_keys(chain: ChainFigures | CKKSParams) -> bool:
    return max(chain.special_bits, default=0) >= max(chain.data_bits)


def _named(chain: ChainFigures | CKKSParams) -> str:
    ring_degree, data, special, wrap_bits = _class_of(chain)
    if wrap_bits:
        return f"ring degree {ring_degree} with {data} data primes and a wrap limb"
    return f"ring degree {ring_degree} with {data} data and {special} special primes"
