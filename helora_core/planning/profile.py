"""The profile of a backend on one machine: what each operation takes, by ring degree, chain and level, with provenance.

``helora calibrate`` writes it; predictions multiply its figures by the counts of a plan. The time of an operation
depends on the ring degree and on how many primes there are, hardly on how long they are, since each residue takes a
machine word. A chain therefore stands for all with as many data and special primes at its ring degree.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec

from helora_core import __version__
from helora_core.errors import CorruptPayload, InvalidInput, ProfileMissing
from helora_core.files import strict_json
from helora_core.files.atomic import replacing
from helora_core.files.bounded import read_bytes
from helora_core.files.malformed import Malformed
from helora_core.params.ckks import CKKSParams

SCHEMA = 1
"""Raised when files of an older helora would be misread, or misread this one's."""

MOST_BYTES = 16 << 20
"""Largest profile that is read; one of all rings and chains has a few hundred KiB."""

_FORMAT = "helora-profile"

_Time = Annotated[float, msgspec.Meta(ge=0, le=1e18)]
_Whole = Annotated[int, msgspec.Meta(ge=0, le=2**48)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=2**48)]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of an operation takes.

    Attributes:
        operation: Its name, as ``helora_core.planning.calibrate`` lists them.
        level: Level of the ciphertext or plaintext that it is given; one prime more than that is left.
        median_ns: Median over the samples, nanoseconds.
        minimum_ns: Smallest of the samples, nanoseconds.
        samples: How many there are; each is the mean of enough calls to last a millisecond.
    """

    operation: str
    level: _Whole
    median_ns: _Time
    minimum_ns: _Time
    samples: _Positive


class ChainFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What was timed on one chain of moduli.

    Attributes:
        ring_degree: N.
        data_bits: Bit lengths of the data primes, base prime first, as the library resolved them.
        special_bits: Likewise of the special primes.
        figures: One for each operation and level.
    """

    ring_degree: _Positive
    data_bits: Annotated[tuple[_Positive, ...], msgspec.Meta(min_length=1)]
    special_bits: tuple[_Positive, ...]
    figures: tuple[Figure, ...]

    def by_operation(self) -> dict[tuple[str, int], Figure]:
        """The figures by operation and level."""
        return {(figure.operation, figure.level): figure for figure in self.figures}


class RefusedChain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain that the backend could not be timed on.

    Attributes:
        ring_degree, data_bits, special_bits: The chain, as it was asked for.
        code: The refusal's code.
        reason: The refusal, in words.
    """

    ring_degree: int
    data_bits: tuple[int, ...]
    special_bits: tuple[int, ...]
    code: str
    reason: str


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where and with what a profile was made. It names a class of hardware, never a host.

    Attributes:
        backend: Name of the backend.
        library: The library that it drives, empty if none.
        library_version: The library's version, None if unknown.
        helora_version: Version of helora.
        python_version: Version of Python.
        architecture: As ``platform.machine`` has it.
        cpu: The processor's model name, empty if the system does not tell.
        cores: Cores that the process may use.
        threads: ``OMP_NUM_THREADS``, None if it was not set.
        date: When the rounds were done: ISO 8601, UTC, to the second.
        rounds: Rounds asked for.
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

    @classmethod
    def here(cls, backend: str, *, library: str, library_version: str | None, rounds: int) -> Provenance:
        """The provenance of what is measured on this machine now."""
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
        )

    def differences(self, other: Provenance) -> tuple[str, ...]:
        """Names of the attributes that differ and may change a figure: all but the date and the rounds.

        Times of profiles that differ in these must not be compared, nor predict each other's runs.
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
        chains: What was timed.
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
        """The chain with as many data and special primes at the ring degree; of several, the likest in bit lengths.

        Raises:
            ProfileMissing: There is none.
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
        """What an operation takes.

        Args:
            operation: Its name.
            params: Ring and chain, of which the numbers of primes count.
            level: Level that it works at; None for the highest, which is the only one for encryptions and for the
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


def _class_of(chain: ChainFigures | CKKSParams) -> tuple[int, int, int]:
    return chain.ring_degree, len(chain.data_bits), len(chain.special_bits)


def _distance(chain: ChainFigures, params: CKKSParams) -> tuple[bool, int, int]:
    """By whether keys can be switched at all; by the data primes, which every operation has to do with; by the rest."""
    data = sum(abs(a - b) for a, b in zip(chain.data_bits, params.data_bits, strict=True))
    special = sum(abs(a - b) for a, b in zip(chain.special_bits, params.special_bits, strict=True))
    return _switches_keys(chain) != _switches_keys(params), data, special


def _switches_keys(chain: ChainFigures | CKKSParams) -> bool:
    return max(chain.special_bits, default=0) >= max(chain.data_bits)


def _named(chain: ChainFigures | CKKSParams) -> str:
    ring_degree, data, special = _class_of(chain)
    return f"ring degree {ring_degree} with {data} data and {special} special primes"


def profile_path(backend_name: str, environ: Mapping[str, str] | None = None) -> Path:
    """Where a backend's profile is kept: in ``$HELORA_PROFILES``, else in helora's folder among the user's data.

    Args:
        backend_name: Registered name of the backend.
        environ: Where ``HELORA_PROFILES``, ``XDG_DATA_HOME`` and ``HOME`` are read; ``os.environ`` if None.

    Raises:
        InvalidInput: The name is none that a file can have.
    """
    if Path(backend_name).name != backend_name or backend_name in ("", ".."):
        raise InvalidInput(
            f"{backend_name!r} is no name of a backend.", hint="Use a name that `helora backends` lists."
        )
    environ = os.environ if environ is None else environ
    if environ.get("HELORA_PROFILES"):
        return Path(environ["HELORA_PROFILES"]) / f"{backend_name}.json"
    data = Path(environ.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():  # the XDG specification says to ignore a relative one
        data = Path(environ["HOME"] if environ.get("HOME") else Path.home()) / ".local" / "share"
    return data / "helora" / "profiles" / f"{backend_name}.json"


def target_path(backend_name: str, output: Path | None = None) -> Path:
    """Where to write a profile: ``output``, or where ``load_profile`` looks for it, whose folder is made.

    It is for use before the work rather than after it.

    Raises:
        InvalidInput: A file cannot be written there, as far as that can be known beforehand.
    """
    if output is None:
        path = profile_path(backend_name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(
                f"{path.parent}: cannot be made ({error.strerror or error}).",
                hint="Name a file with --output, or a folder with HELORA_PROFILES.",
            ) from error
    else:
        path = output
    if path.is_dir() or not path.parent.is_dir():
        raise InvalidInput(
            f"{path}: cannot be written, since "
            + ("it is a directory." if path.is_dir() else f"{path.parent} is not a directory."),
            hint="Name a file in a directory that exists.",
        )
    return path


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile as JSON, whole or not at all.

    Raises:
        InvalidInput: The place cannot be written to.
    """
    with replacing(path) as file:
        dump_profile(profile, file)


def dump_profile(profile: Profile, file: BinaryIO) -> None:
    """Write a profile as JSON into an open file."""
    file.write(msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n")


class _Header(msgspec.Struct):
    format: str = ""
    schema: int = 0


def read_profile(path: Path) -> Profile:
    """Read what ``write_profile`` wrote.

    Raises:
        InvalidInput: The file cannot be read.
        CorruptPayload: It is no profile, is damaged, or is of another schema.
    """
    try:
        content = read_bytes(path, most=MOST_BYTES)
    except Malformed as error:
        raise CorruptPayload(
            f"{path}: this is no profile of helora (it {error.reason}).", hint="Name a file of helora calibrate."
        ) from error
    except OSError as error:
        raise InvalidInput(
            f"{path}: cannot be read ({error.strerror or error}).", hint="Run helora calibrate to make a profile."
        ) from error
    try:
        header = strict_json.decode(content, _Header, most=MOST_BYTES)
        if header.format != _FORMAT:
            raise CorruptPayload(f"{path}: this is no profile of helora.", hint="Name a file of helora calibrate.")
        if header.schema != SCHEMA:
            raise CorruptPayload(
                f"{path}: this profile has schema {header.schema}; this helora reads schema {SCHEMA}.",
                hint="Update helora." if header.schema > SCHEMA else "Run helora calibrate again, with --force.",
            )
        return strict_json.decode(content, Profile, most=MOST_BYTES)
    except Malformed as error:
        raise CorruptPayload(
            f"{path}: this profile is damaged (it {error.reason}).", hint="Run helora calibrate again, with --force."
        ) from error


def load_profile(backend_name: str, environ: Mapping[str, str] | None = None) -> Profile | None:
    """The profile of a backend that is kept here, or None if it was never calibrated.

    Raises:
        InvalidInput, CorruptPayload: As ``profile_path`` and ``read_profile`` do; or the file is another backend's.
    """
    path = profile_path(backend_name, environ)
    if not path.exists():
        return None
    profile = read_profile(path)
    if profile.provenance.backend != backend_name:
        raise CorruptPayload(
            f"{path}: this is the profile of {profile.provenance.backend}, not of {backend_name}.",
            hint=f"Run helora calibrate --backend {backend_name} --force.",
        )
    return profile
