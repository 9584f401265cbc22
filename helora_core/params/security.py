"""Which parameter sets are secure: published tables as data, and the refusal of parameters they do not allow.

A table gives, for a ring degree and a security level, the largest log2(QP) at which the best known attack on RLWE with
a ternary secret still costs 2^level: a classical attack, or one with a quantum computer. Special primes count:
key-switching keys are RLWE samples modulo QP.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Literal

import msgspec

from helora_core.errors import InsecureParameters, InvalidParameters
from helora_core.params.ckks import CKKSParams

DEFAULT_TABLE = "guidelines-2024"
TABLES = ("guidelines-2024", "he-standard-2018", "he-standard-2018-quantum", "adps16-quantum")
DEFAULT_SECURITY_BITS = 128


class SecurityTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A published table: ``max_modulus_bits[level][ring_degree]`` bounds log2(QP) against one kind of ``attacks``."""

    schema: int
    name: str
    title: str
    source: str
    read: str
    secret: str
    attacks: Literal["classical", "quantum"]
    max_modulus_bits: dict[int, dict[int, int]]

    @property
    def levels(self) -> tuple[int, ...]:
        """Security levels in bits, ascending."""
        return tuple(sorted(self.max_modulus_bits))

    def rings(self, security_bits: int) -> tuple[int, ...]:
        """Ring degrees that have an entry at this level, ascending."""
        return tuple(sorted(self._entries(security_bits)))

    def limit(self, ring_degree: int, security_bits: int) -> int:
        """Largest log2(QP) allowed; 0, which allows nothing, where the table has no entry."""
        return self._entries(security_bits).get(ring_degree, 0)

    def smallest_ring(self, modulus_bits: int, security_bits: int) -> int | None:
        """Smallest ring degree that allows log2(QP) = ``modulus_bits``, or None."""
        fitting = (n for n, limit in self._entries(security_bits).items() if limit >= modulus_bits)
        return min(fitting, default=None)

    def _entries(self, security_bits: int) -> dict[int, int]:
        try:
            return self.max_modulus_bits[security_bits]
        except KeyError:
            raise InvalidParameters(
                f"Security table {self.name} has no column for {security_bits} bits.",
                hint=f"Ask for one of {', '.join(map(str, self.levels))} bits.",
            ) from None


@functools.cache
def load_table(name: str = DEFAULT_TABLE) -> SecurityTable:
    """Read a bundled security table by name.

    Raises:
        InvalidParameters: There is no table of that name.
    """
    if name not in TABLES:
        raise InvalidParameters(
            f"There is no security table named {name!r}.", hint=f"Choose one of {', '.join(TABLES)}."
        )
    data = resources.files("helora_core.params").joinpath(f"tables/{name}.json").read_bytes()
    return msgspec.json.decode(data, type=SecurityTable)


class SecurityVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A table's verdict on a parameter set.

    Attributes:
        table: Name of the table.
        security_bits: The highest level of the table that the set meets, 0 if none.
        modulus_bits: log2(QP) of the set.
        limit_bits: The largest log2(QP) that the table allows for this ring at ``asked_bits``.
        asked_bits: The security level that was asked for.
    """

    table: str
    security_bits: int
    modulus_bits: int
    limit_bits: int
    asked_bits: int

    @property
    def secure(self) -> bool:
        """Whether the level asked for is met."""
        return self.modulus_bits <= self.limit_bits


def security_verdict(
    params: CKKSParams, *, security_bits: int = DEFAULT_SECURITY_BITS, table: str = DEFAULT_TABLE
) -> SecurityVerdict:
    """Judge ``params`` by a table.

    Raises:
        InvalidParameters: The table or the level does not exist.
    """
    entries = load_table(table)
    met = [level for level in entries.levels if params.modulus_bits <= entries.limit(params.ring_degree, level)]
    return SecurityVerdict(
        table=table,
        security_bits=max(met, default=0),
        modulus_bits=params.modulus_bits,
        limit_bits=entries.limit(params.ring_degree, security_bits),
        asked_bits=security_bits,
    )


def require_secure(
    params: CKKSParams, *, security_bits: int = DEFAULT_SECURITY_BITS, table: str = DEFAULT_TABLE
) -> SecurityVerdict:
    """Return the verdict on ``params``, or refuse them.

    Raises:
        InsecureParameters: log2(QP) is over the table's limit. The message names the table, its limit and the level
            asked for, and the hint the smallest ring that would do.
    """
    verdict = security_verdict(params, security_bits=security_bits, table=table)
    if verdict.secure:
        return verdict
    ring = load_table(table).smallest_ring(params.modulus_bits, security_bits)
    raise InsecureParameters(
        f"Security table {table} allows log2(QP) <= {verdict.limit_bits} bits at ring degree {params.ring_degree} for "
        f"{security_bits}-bit security; these parameters have {params.modulus_bits} bits.",
        hint=(
            f"The smallest ring degree that allows {params.modulus_bits} bits is {ring}."
            if ring
            else "No ring degree of the table allows so large a modulus: use fewer or smaller primes."
        ),
    )
