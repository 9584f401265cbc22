"""Bytes that a plan sends and keeps: a residue is 8 bytes for each coefficient and prime, before any compression.

Libraries add headers of some hundred bytes and may compress; the sizes of a run are measured, these are for planning.
"""

from __future__ import annotations

from helora_core.compiler.checks import ValueInfo
from helora_core.compiler.ir import OpKind, Program
from helora_core.params.ckks import CKKSParams

_RESIDUE_BYTES = 8


def ciphertext_bytes(params: CKKSParams, level: int) -> int:
    """Two polynomials at ``level``."""
    return 2 * _RESIDUE_BYTES * params.ring_degree * (level + 1)


def bytes_up(program: Program, params: CKKSParams, *, seeded: bool = True) -> int:
    """Ciphertext bytes that the client sends in one run; half for those sent as a polynomial and a seed."""
    sent = sum(op.kind in (OpKind.INPUT, OpKind.ASK_CLIENT) for op in program.ops)
    return sent * ciphertext_bytes(params, params.max_level) // (2 if seeded else 1)


def bytes_down(program: Program, values: tuple[ValueInfo, ...], params: CKKSParams) -> int:
    """Ciphertext bytes that the client receives in one run."""
    asked = [arg for op in program.ops if op.kind is OpKind.ASK_CLIENT for arg in op.args]
    return sum(ciphertext_bytes(params, values[value].level) for value in (*program.results, *asked))


def key_bytes(program: Program, params: CKKSParams) -> int:
    """Bytes of a program's rotation keys, sent once."""
    return len(program.rotation_steps) * one_key_bytes(params)


def one_key_bytes(params: CKKSParams) -> int:
    """Bytes of the key for one rotation step: a pair of polynomials over all primes, per data prime."""
    primes = len(params.data_bits) + len(params.special_bits)
    return len(params.data_bits) * 2 * _RESIDUE_BYTES * params.ring_degree * primes
