"""``cheetah``: inner products in coefficients. No rotations, a ring half as large, and the client finishes.

Why: a product of polynomials is a negacyclic convolution, and one coefficient of a convolution with a reversed vector
is an inner product. So one ct×pt computes several rows of ``down``·x without any key switch, and N coefficients hold
twice as much as N/2 slots. It is the cheapest packing where the holder of the key may see z = down·x and owns ``up``.

Layout. x is cut into B blocks of w features, one ciphertext each, and the r rows of ``down`` into J groups of ρ. Block
b of token t begins at coefficient t·ρ·w. The plaintext (b, j) holds the group's rows one after another, each reversed:

    p_{b,j}[k·w + w−1 − i] = down[j·ρ + k, b·w + i],   so that
    (x_b · p_{b,j})[(t·ρ + k)·w + w−1] = Σ_i x_t[b·w + i] · down[j·ρ + k, b·w + i].

With T·ρ·w <= N nothing else reaches these coefficients: exponents differ by less than w within a token and row, and
exponents above N wrap around to the coefficients below w−1. Adding the products of all blocks gives z; T·ρ of its
numbers come back in each of J ciphertexts. The client applies (α/r)·``up``.
More tokens run together as long as the plaintexts stay within ``MOST_COEFFICIENTS``.

Cost: 0 rotations, B·J ct×pt, at most J rescales, B ciphertexts up and J down, for T tokens a run. B·J is about
T·r·d_in/N whatever the split: narrower blocks mean fewer ciphertexts down, which may have to be sanitised, and more of
them up. With B = T = 1 and d_in <= N these are the published ⌈r/⌊N/d_in⌋⌉ products.

Leakage: z, if results are sanitised. The other coefficients are partial convolutions, from which the client, which
knows x, can compute ``down``; ``output`` names those to keep, and a sanitised plan hides the rest under noise.

Source: Cheetah (Huang, Lu, Hong, Ding; USENIX Security 2022), §4.1, on CKKS in place of BFV. The split by cost and the
tokens side by side are our additions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.errors import LeakageRefused
from helora_core.packing.costs import OperationCosts
from helora_core.packing.interleaved import blocks, padded
from helora_core.packing.protocol import ModulusUse, ProgramBuilder, ScaleRole, Value, Vector
from helora_core.privacy.leakage import Leakage, LeakageClass

MOST_COEFFICIENTS = 1 << 27
"""Most coefficients that the products' plaintexts may have together, about T·r·d_in/N plaintexts of N each: beyond a
gibibyte for each prime they fill the memory, and running more tokens together no longer pays."""

Number = TypeVar("Number", np.float64, np.uint64)
"""Activations and results are real; between two rounds they are residues."""


@dataclass(frozen=True)
class InnerProducts:
    """z = matrix·x by reversed rows: ``width`` is w, ``rows`` ρ, for a matrix of ``height`` rows and ``columns``.

    ``role`` says which matrix it is, ``down`` or ``up``, and begins the names of its plaintexts.
    """

    role: ScaleRole
    height: int
    columns: int
    width: int
    rows: int
    tokens: int

    @property
    def blocks(self) -> int:
        """B, the number of ciphertexts of x."""
        return blocks(self.columns, self.width)

    @property
    def groups(self) -> int:
        """J, the number of ciphertexts of z."""
        return blocks(self.height, self.rows)

    def emit(self, builder: ProgramBuilder, x: list[Value]) -> list[Value]:
        """Emit the products, and return the sum over the blocks for each group."""
        return [
            builder.sum([builder.multiply_plain(block, self.constant(b, j), self.role) for b, block in enumerate(x)])
            for j in range(self.groups)
        ]

    def constant(self, block: int, group: int) -> str:
        """The name of the plaintext for a block and a group."""
        return f"{self.role.value}.{block}.{group}"

    def constants(self, matrix: Vector) -> Iterator[tuple[str, Vector]]:
        """The name and coefficients of each plaintext: the reversed rows of a block and group."""
        full = padded(matrix, self.groups * self.rows, self.blocks * self.width)
        for b in range(self.blocks):
            for j in range(self.groups):
                rows = full[j * self.rows : (j + 1) * self.rows, b * self.width : (b + 1) * self.width]
                yield self.constant(b, j), rows[:, ::-1].ravel()

    def pack(self, x: NDArray[Number]) -> list[NDArray[Number]]:
        """Coefficients of each block, from activations of shape (tokens, columns)."""
        tokens = x.shape[0]
        features = np.zeros((tokens, self.blocks * self.width), dtype=x.dtype)
        features[:, : self.columns] = x
        spaced = np.zeros((self.blocks, tokens, self.rows * self.width), dtype=x.dtype)
        spaced[:, :, : self.width] = features.reshape(tokens, self.blocks, self.width).transpose(1, 0, 2)
        return [block.ravel() for block in spaced]

    def wanted(self, group: int) -> tuple[int, ...]:
        """Coefficients of a group's product that are part of z, by token and row."""
        rows = min(self.rows, self.height - group * self.rows)
        if rows == self.rows:
            return self._ends
        starts = range(0, self.tokens * self.rows, self.rows)
        return tuple(end for start in starts for end in self._ends[start : start + rows])

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        """Coefficient at the end of each row of a full group; computed once, since all groups but the last use them."""
        return tuple(range(self.width - 1, self.tokens * self.rows * self.width, self.width))

    def unpack(self, outputs: list[NDArray[Number]]) -> NDArray[Number]:
        """z of shape (tokens, height) from the decrypted coefficients of every group."""
        parts = [output[list(self.wanted(j))].reshape(self.tokens, -1) for j, output in enumerate(outputs)]
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class CheetahLayout:
    """``cheetah`` for one shape."""

    shape: ModuleShape
    products: InnerProducts

    @property
    def tokens_per_run(self) -> int:
        return self.products.tokens

    @property
    def figures(self) -> Mapping[str, int]:
        products = self.products
        return {
            "width": products.width,
            "blocks": products.blocks,
            "rows": products.rows,
            "ciphertexts_down": products.groups,
        }

    def emit(self, builder: ProgramBuilder) -> None:
        x = [builder.input() for _ in range(self.products.blocks)]
        for j, z in enumerate(self.products.emit(builder, x)):
            builder.output(builder.rescale(z), keep=self.products.wanted(j))

    def constants(self, module: LoRAModule) -> Iterator[tuple[str, Vector]]:
        return self.products.constants(module.down)

    def pack(self, x: Vector) -> list[Vector]:
        return self.products.pack(x)

    def unpack(self, outputs: list[Vector], tokens: int, client_module: LoRAModule | None) -> Vector:
        if client_module is None:
            raise LeakageRefused(
                "Packing cheetah: the client must apply up in the clear and was not given the adapter.",
                hint="Give the client the adapter if it owns it; otherwise use cheetah_two_round or rank_bsgs.",
            )
        delta: Vector = self.products.unpack(outputs)[:tokens] @ client_module.scaled_up.T
        return delta


class Cheetah:
    """The strategy."""

    name = "cheetah"
    version = 1
    depth = 1
    rotates = False
    encoding = Encoding.COEFFICIENTS
    modulus_use = ModulusUse.FLAT
    client_finishes = True
    leakage = Leakage(
        key_holder=LeakageClass.Z,
        needs_sanitize=True,
        explanation="The key holder decrypts z = down·x and owns up; the other coefficients give down away.",
    )

    def min_slots(self, shape: ModuleShape) -> int:
        return 1

    def layouts(
        self, shape: ModuleShape, slots: int, *, tokens: int | None, costs: OperationCosts
    ) -> Iterator[CheetahLayout]:
        for products in cheapest_splits(shape.rank, shape.d_in, 2 * slots, tokens=tokens, costs=costs):
            yield CheetahLayout(shape, products)


def cheapest_splits(
    height: int, columns: int, ring_degree: int, *, tokens: int | None, costs: OperationCosts
) -> list[InnerProducts]:
    """The cheapest ways to split a matrix: for results sent as they are, then, if it differs, for sanitised ones.

    Args:
        height: Rows of the matrix.
        columns: Columns of the matrix.
        ring_degree: N, the number of coefficients of a ciphertext.
        tokens: Tokens available to run together; None for one.
        costs: The costs of a product, of a ciphertext up, of one down and of sanitising it.
    """
    together = {min(1 << exponent, tokens or 1) for exponent in range((tokens or 1).bit_length() + 1)}
    candidates = [
        split
        for per_run in sorted(together)
        for split in splits(height, columns, ring_degree, per_run)
        if per_run == 1 or split.blocks * split.groups * ring_degree <= MOST_COEFFICIENTS
    ]

    def cost(split: InnerProducts, for_each_result: float) -> float:
        work = split.blocks * split.groups * (costs.multiply_plain + costs.add)
        messages = split.blocks * costs.encrypt + split.groups * for_each_result
        return blocks(tokens or 1, split.tokens) * (work + messages + costs.round_trip)

    plain = min(candidates, key=lambda split: cost(split, costs.decrypt))
    sanitized = min(candidates, key=lambda split: cost(split, costs.decrypt + costs.sanitize))
    return [plain] if plain == sanitized else [plain, sanitized]


def splits(height: int, columns: int, ring_degree: int, tokens: int) -> Iterator[InnerProducts]:
    """The splits to compare: for each number of rows in a ciphertext, the fewest blocks, all about equally wide."""
    rows = min(height, ring_degree // tokens)
    while rows:
        rows = blocks(height, blocks(height, rows))  # as even as the number of ciphertexts down allows
        width = blocks(columns, blocks(columns, ring_degree // (rows * tokens)))
        yield InnerProducts(ScaleRole.DOWN, height, columns, width, rows, tokens)
        rows -= 1
