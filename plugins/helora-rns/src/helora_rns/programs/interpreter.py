"""Runs a lowered program step by step with any kernel set: what ``hr_run`` is held to, and what runs without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from helora_rns.kernels import MOST_TERMS, Array, Kernels, copied
from helora_rns.modular import Residues
from helora_rns.programs.steps import Kind, Ref, Step

Table = Sequence[NDArray[Any]]
"""The buffers of a run: rows of ciphertexts, plaintexts and scratch, (rows, N); keys; indices."""


def interpret(kernels: Kernels, steps: Sequence[Step], table: Table, data: int, specials: int) -> None:
    """Run all steps, for one run.

    Args:
        kernels: Of the ring.
        steps: The program.
        table: The buffers; outputs and scratch are written to.
        data: Data primes of the ring.
        specials: Special primes.
    """
    _Run(kernels, table, data, specials).run(steps)


class _Run:
    def __init__(self, kernels: Kernels, table: Table, data: int, specials: int) -> None:
        self._kernels, self._table = kernels, table
        self._data, self._specials = data, specials

    def run(self, steps: Sequence[Step]) -> None:
        at = 0
        while at < len(steps):
            end = at + 1
            if not steps[at].kind.by_row:
                self._whole(steps[at])
            else:
                while end < len(steps) and steps[end].kind.by_row and steps[end].limbs == steps[at].limbs:
                    end += 1
                for row in range(max(step.rows for step in steps[at:end])):
                    for step in steps[at:end]:
                        if row < step.rows:
                            self._by_row(step, row)
            at = end

    def _copied(self, array: Array) -> Array:
        return copied(self._kernels, array)

    def _zeros(self, like: Residues) -> Residues:
        zeros = self._kernels.empty(like.shape)
        zeros[...] = 0
        return zeros

    def _rows(self, ref: Ref, count: int) -> Residues:
        rows: Residues = self._table[ref.slot][ref.row : ref.row + count]
        return rows

    def _row(self, ref: Ref, row: int) -> Residues | None:
        if row >= ref.rows:
            return None
        at = ref.row + (0 if ref.local else row)
        one: Residues = self._table[ref.slot][at : at + 1]
        return one

    def _prime(self, limbs: int, row: int) -> int:
        return row if row < limbs else self._data + row - limbs

    def _whole(self, step: Step) -> None:
        kernels, (out, read) = self._kernels, step.refs
        specials = 0 if step.kind is Kind.RESCALE else self._specials
        basis = tuple(self._prime(step.limbs, row) for row in range(step.limbs + specials))
        if step.kind is Kind.DECOMPOSE:
            digits = kernels.decompose(self._copied(self._rows(read, step.limbs)), basis, specials)
            self._rows(out, step.rows)[...] = digits.reshape(step.rows, -1)
        else:
            polynomial = self._copied(self._rows(read, len(basis)))[None]
            self._rows(out, step.rows)[...] = kernels.mod_down(polynomial, basis, specials or 1)[0]

    def _by_row(self, step: Step, row: int) -> None:
        prime = (self._prime(step.limbs, row),)
        if step.kind is Kind.ROTATE:
            self._rotate(step, row, prime)
        elif step.kind is Kind.DOT:
            for polynomial in (0, 1):
                terms = [step.refs[2 + 3 * i : 5 + 3 * i] for i in range(step.terms)]
                self._dot(step.refs[polynomial], [(term[polynomial], term[2]) for term in terms], row, prime)
        elif step.kind is Kind.SUM:
            self._sum(step, row, prime)
        else:
            product = 1
            for special in range(self._data, self._data + self._specials):
                product = product * self._kernels.primes[special] % self._kernels.primes[prime[0]]
            out, read = (self._row(ref, row) for ref in step.refs)
            assert out is not None
            assert read is not None
            out[...] = self._kernels.times(read, [product], prime)

    def _rotate(self, step: Step, row: int, prime: tuple[int]) -> None:
        *outs, digits, key, index, _, added = step.refs
        width = step.limbs + self._specials
        of_row = [self._table[digits.slot][i * width + row][None] for i in range(step.limbs)]
        block = self._table[key.slot][prime[0]]
        for polynomial, ref in enumerate(outs):
            parts = [self._copied(block[:, i, polynomial].reshape(1, -1)) for i in range(step.limbs)]
            total = self._kernels.dot(of_row, parts, prime)
            extra = self._row(added, row) if polynomial == 0 else None
            if extra is not None:
                total = self._kernels.add(total, extra, prime)
            total = self._kernels.permute(total, self._table[index.slot])
            out = self._row(ref, row)
            assert out is not None
            out[...] = self._kernels.add(out, total, prime) if step.accumulate else total

    def _dot(self, ref: Ref, terms: Sequence[tuple[Ref, Ref]], row: int, prime: tuple[int]) -> None:
        out = self._row(ref, row)
        assert out is not None
        pairs = [(self._row(a, row), self._row(b, row)) for a, b in terms]
        left = [a for a, b in pairs if a is not None and b is not None]
        right = [b for a, b in pairs if a is not None and b is not None]
        total = self._zeros(out)
        for start in range(0, len(left), MOST_TERMS):
            part = slice(start, start + MOST_TERMS)
            dot = self._kernels.dot(left[part], right[part], prime)
            total = self._kernels.add(total, dot, prime, out=self._kernels.empty(out.shape))
        out[...] = total

    def _sum(self, step: Step, row: int, prime: tuple[int]) -> None:
        out = self._row(step.refs[0], row)
        assert out is not None
        total = self._copied(out) if step.accumulate else self._zeros(out)
        for ref in step.refs[1:]:
            term = self._row(ref, row)
            if term is not None:
                total = self._kernels.add(self._copied(total), term, prime)
        out[...] = total
