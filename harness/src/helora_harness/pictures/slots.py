"""``rank_bsgs`` slot by slot: its own layout and program for d = 8, r = 2 and two tokens, traced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.builder import Builder
from helora_core.compiler.ir import Op, OpKind
from helora_core.packing.costs import DEFAULT_COSTS
from helora_core.packing.rank_bsgs import RankBSGS
from helora_harness.pictures.drawn import Picture, extent
from helora_harness.pictures.traced import Place, inputs, numbered, trace

SHAPE = ModuleShape(d_in=8, d_out=8, rank=2)
SLOTS = 16
TOKENS = 2
CELL = 27.0
LEFT = 24.0
TOKEN = ("client", "mark")


def traced() -> tuple[tuple[Op, ...], list[list[Place]], dict[str, list[str]]]:
    """The program, what each of its values holds, and its plaintexts by name."""
    layout = next(iter(RankBSGS().layouts(SHAPE, SLOTS, tokens=TOKENS, costs=DEFAULT_COSTS)))
    builder = Builder(SLOTS, rescales=False)
    layout.emit(builder)
    ops = builder.program().ops
    module, names = numbered(SHAPE)
    plaintexts = {name: [names[value] for value in vector] for name, vector in layout.constants(module)}
    x = np.arange(TOKENS * SHAPE.d_in, dtype=np.float64).reshape(TOKENS, SHAPE.d_in) + 1
    (packed,) = layout.pack(x)
    return ops, trace(ops, inputs(packed.tolist(), TOKENS, SHAPE.d_in), plaintexts), plaintexts


def rows_of(places: Sequence[Place], matrix: str) -> list[tuple[int, int, int]]:
    """For each slot: token, row of a matrix, and how many of its columns are in the sum; each slot has one row."""
    found = []
    for place in places:
        factors = {name[1:].split(",")[0] for term in place for name in term if name[0] == matrix}
        columns = {name for term in place for name in term if name[0] == "d"}
        tokens = {name[1:].split(",")[0] for term in place for name in term if name[0] == "x"}
        (row,), (token,) = factors, tokens
        found.append((int(token), int(row), len(columns)))
    return found


def picture() -> Picture:
    """Ten rows of sixteen slots."""
    ops, values, plaintexts = traced()
    rotations = [i for i, op in enumerate(ops) if op.kind is OpKind.ROTATE]
    products = [i for i, op in enumerate(ops) if op.kind is OpKind.MULTIPLY_PLAIN]
    sums = [i for i, op in enumerate(ops) if op.kind is OpKind.ADD]
    p = Picture(
        "rank-bsgs-slots",
        f"rank_bsgs in {SLOTS} slots: d = 8, r = 2, two tokens",
        f"Two tokens are interleaved: feature f of token t is in slot 2f + t. x and x rotated by one feature are "
        "multiplied by two diagonals of down; their sum has 2 of 8 products of z0 or z1 in each slot. Two folds add "
        "rotations by 2 and 4 features, and every slot has its whole z. That and its rotation times two diagonals of "
        f"up give Δ, laid out as x was. In all {len(rotations)} rotations and {len(products)} products.",
    )
    line = _Rows(p)
    line.caption(("x, packed:", "bold"), ("token 0", "client"), ("token 1", "mark"), ("feature in the slot", ""))
    line.features(values[0])
    line.caption((f"rotated left by 1 feature, {ops[rotations[0]].steps} slots", ""))
    line.features(values[rotations[0]])
    line.caption(("1", "bold"), ("times diagonals 0 and 1 of down (row, column)", ""))
    for product in products[:2]:
        line.weights(plaintexts[ops[product].constant])
    line.caption(("their sum: 2 of 8 products of z0 or z1 in each slot", ""))
    line.partial(values[sums[0]])
    for fold, rotation in zip(sums[1:3], rotations[1:3], strict=True):
        (_, _, count), features = rows_of(values[fold], "d")[0], ops[rotation].steps // TOKENS
        number = ("2", "bold") if fold == sums[1] else ("", "")
        line.caption(number, (f"fold: plus itself rotated by {features} features: {count} of 8", ""))
        line.partial(values[fold])
    line.caption(("3", "bold"), ("z, and z rotated by 1 feature, times diagonals of up", ""))
    for product in products[2:]:
        line.weights(plaintexts[ops[product].constant])
    line.caption(("their sum is Δ, laid out as x was", "bold"))
    for i, (token, row, count) in enumerate(rows_of(values[sums[-1]], "u")):
        assert count == SHAPE.d_in * SHAPE.rank
        p.cell(LEFT + CELL * i, line.y, CELL, TOKEN[token], str(row))
    p.text(LEFT, line.y + CELL + 24, f"{len(rotations)} rotations, {len(products)} products, depth 2.", "small dim")
    return p


class _Rows:
    """Rows of slots, from top to bottom, each under its caption."""

    def __init__(self, p: Picture) -> None:
        self._p, self.y = p, 12.0

    def caption(self, *parts: tuple[str, str]) -> None:
        """A line of words, some of them after a patch of a colour."""
        self.y += 17
        x = LEFT
        for words, css in parts:
            if css in TOKEN:
                self._p.cell(x, self.y - 11, 12, css)
                x += 17
            style = "small bold" if css == "bold" else "small"
            if words:
                self._p.text(x, self.y, words, style)
                x += extent(words, style) + 6
        self.y += 6

    def features(self, places: Sequence[Place]) -> None:
        """Slots of x."""
        for i, place in enumerate(places):
            ((name,),) = place
            token, feature = name[1:].split(",")
            self._p.cell(LEFT + CELL * i, self.y, CELL, TOKEN[int(token)], feature)
        self.y += CELL + 6

    def weights(self, names: Sequence[str]) -> None:
        """Slots of a plaintext."""
        for i, name in enumerate(names):
            self._p.cell(LEFT + CELL * i, self.y, CELL, "server", name[1:])
        self.y += CELL + 6

    def partial(self, places: Sequence[Place]) -> None:
        """Slots of z, each filled as far as its sum has come."""
        for i, (token, row, count) in enumerate(rows_of(places, "d")):
            x, full = LEFT + CELL * i, CELL * count / SHAPE.d_in
            self._p.cell(x, self.y, CELL, "plain")
            self._p.bar(x + 1, self.y + CELL - full, CELL - 2, full - 1, f"{TOKEN[token]} flat")
            self._p.text(x + CELL / 2, self.y + CELL / 2 + 5, f"z{row}", "small", "middle")
        self.y += CELL + 6
