"""One ``rank_bsgs`` as our own engine runs it: where values stay extended by P, and where they are divided."""

from __future__ import annotations

from helora_harness.pictures.drawn import Picture


def picture() -> Picture:
    """The steps of one of its two sums, and the folds."""
    p = Picture(
        "engine-rank-bsgs",
        "One rank_bsgs, lowered: rotations stay extended by P, and each sum is divided once",
        "The input is decomposed once. Its digits times each baby step's key stay extended by P, are multiplied by "
        "weights and added up, one sum for each giant step. To rotate a sum, only its second polynomial is divided by "
        "P and decomposed again; the first goes on undivided. The last sum is divided by P once.",
    )
    p.box(90, 16, 270, 46, "client", [("x", "bold"), ("decomposed once", "small")])
    p.arrow((225, 62), (225, 86))
    p.box(
        90, 86, 270, 84, "plain",
        [("baby rotations", "bold"), ("digits · key 1, digits · key 2, …", "small"), ("extended by P", "small dim")],
    )  # fmt: skip
    p.arrow((225, 170), (225, 194))
    p.box(
        90, 194, 270, 84, "plain",
        [("times weights", "bold"), ("one sum for each giant step", "small"), ("extended by P", "small dim")],
    )  # fmt: skip
    p.arrow((150, 278), (150, 312))
    p.arrow((320, 278), (320, 312))
    p.box(50, 312, 196, 64, "client", [("c₁ of a sum", "bold"), ("divided by P, decomposed", "small")])
    p.box(264, 312, 116, 64, "plain", [("c₀ of it", "bold"), ("not divided", "small")])
    p.arrow((150, 376), (150, 408))
    p.arrow((320, 376), (320, 408))
    p.box(90, 408, 270, 46, "plain", [("rotated, added up", "bold")])
    p.arrow((360, 431), (412, 431), (412, 293), (322, 293))
    p.text(398, 476, "again for each fold", "small dim", "middle")
    p.arrow((225, 454), (225, 486))
    p.box(90, 486, 270, 46, "client", [("the sum, divided by P once", "bold")])
    p.text(225, 556, "then the same for up", "small dim", "middle")
    p.cell(90, 574, 12, "client")
    p.text(108, 585, "transforms", "small")
    p.cell(206, 574, 12, "plain")
    p.text(224, 585, "row by row, none", "small")
    return p
