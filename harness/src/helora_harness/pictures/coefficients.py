"""``cheetah`` coefficient by coefficient: its own split of d_in = 4, r = 2 for two tokens and N = 16, traced."""

from __future__ import annotations

import numpy as np

from helora_core.adapter.lora import ModuleShape
from helora_core.packing.cheetah import InnerProducts, splits
from helora_harness.pictures.drawn import Picture
from helora_harness.pictures.slots import CELL, LEFT, TOKEN
from helora_harness.pictures.traced import Place, inputs, negacyclic, numbered

SHAPE = ModuleShape(d_in=4, d_out=4, rank=2)
RING = 16
TOKENS = 2


def split() -> InnerProducts:
    """The split that has one block and one group: everything in one ciphertext."""
    return next(each for each in splits(SHAPE.rank, SHAPE.d_in, RING, TOKENS) if each.blocks == each.groups == 1)


def traced() -> tuple[list[Place], list[str], list[Place]]:
    """The coefficients of x, those of the plaintext, and those of their product."""
    products = split()
    module, names = numbered(SHAPE)
    ((_, vector),) = products.constants(module.down)
    plaintext = [names[value] for value in vector.tolist()] + [""] * (RING - vector.size)
    x = np.arange(TOKENS * SHAPE.d_in, dtype=np.float64).reshape(TOKENS, SHAPE.d_in) + 1
    (packed,) = products.pack(x)
    filled = [*packed.tolist(), *[0.0] * (RING - packed.size)]
    places = inputs(filled, TOKENS, SHAPE.d_in)
    return places, plaintext, negacyclic(places, plaintext)


def inner_product(place: Place) -> tuple[int, int]:
    """Token and row, of a coefficient that holds one whole inner product and nothing else."""
    terms = {(*term,) for term in place}
    tokens = {name[1:].split(",")[0] for term in terms for name in term if name[0] == "x"}
    rows = {name[1:].split(",")[0] for term in terms for name in term if name[0] == "d"}
    (token,), (row,) = tokens, rows
    whole = {tuple(sorted((f"x{token},{i}", f"d{row},{i}"))) for i in range(SHAPE.d_in)}
    if terms != whole:
        raise ValueError(f"not an inner product: {terms}")
    return int(token), int(row)


def picture() -> Picture:
    """Three rows of sixteen coefficients, and why one of them is an inner product."""
    x, plaintext, product = traced()
    wanted = split().wanted(0)
    p = Picture(
        "cheetah-coefficients",
        f"cheetah in {RING} coefficients: d_in = 4, r = 2, two tokens",
        "x of token 0 is in coefficients 0 to 3 and x of token 1 in 8 to 11, with zeros after each. The plaintext has "
        f"the rows of down one after the other, each reversed. Their product has z in coefficients {wanted}; the "
        "other coefficients mix weights and are masked in a sanitised plan. No rotation takes place.",
    )
    y = 32.0
    for i in range(RING):
        p.text(LEFT + CELL * (i + 0.5), y - 6, str(i), "small dim", "middle")
    for i, place in enumerate(x):
        name = next(iter(place))[0] if place else ""
        token, _, feature = name[1:].partition(",")
        p.cell(LEFT + CELL * i, y, CELL, TOKEN[int(token)] if name else "plain", feature or "0")
    p.text(LEFT, y + CELL + 17, "x: feature i of token t in coefficient 8t + i", "small")
    y += CELL + 36
    for i, name in enumerate(plaintext):
        p.cell(LEFT + CELL * i, y, CELL, "server" if name else "plain", name[1:] if name else "0")
    p.text(LEFT, y + CELL + 17, "down (row, column): its rows, each reversed", "small")
    y += CELL + 36
    for i, place in enumerate(product):
        if i in wanted:
            of, row = inner_product(place)
            p.cell(LEFT + CELL * i, y, CELL, TOKEN[of], f"z{row}", "small bold")
        else:
            p.cell(LEFT + CELL * i, y, CELL, "bad")
    p.text(LEFT, y + CELL + 17, "product modulo X¹⁶ + 1: z = down · x", "small")
    p.cell(LEFT, y + CELL + 27, 12, "bad")
    p.text(LEFT + 18, y + CELL + 38, "other sums of products: masked in a sanitised plan", "small")
    y += CELL + 66
    p.text(LEFT, y, "Why coefficient 3 is z0 of token 0", "bold")
    _exponents(p, y + 22)
    return p


def _exponents(p: Picture, top: float) -> None:
    """The exponents that features and reversed weights add up to; those that are three lie on one diagonal."""
    left, size = LEFT + 44, 31.0
    for j in range(4):
        p.text(left + size * (j + 0.5), top, f"0,{3 - j}", "small dim", "middle")
    for i in range(4):
        p.text(left - 8, top + 7 + size * (i + 0.5) + 5, f"x{i}", "small dim", "end")
        for j in range(4):
            hit = i + j == 3
            style = "small bold" if hit else "small dim"
            p.cell(
                left + size * j, top + 7 + size * i, size, TOKEN[0] if hit else "plain", f"X{'⁰¹²³⁴⁵⁶'[i + j]}", style
            )
    x = left + 4 * size + 18
    for i, words in enumerate(
        ("Feature i stands at Xⁱ, its weight", "at X³⁻ⁱ. Each product is at X³, for", "every i: they add up there,",
         "without a rotation.")
    ):  # fmt: skip
        p.text(x, top + 40 + 22 * i, words, "small")
