"""A language model in two planes: the base model in the clear at the client, the adapter encrypted at the server."""

from __future__ import annotations

from helora_core.data.bundled import bundled_adapter
from helora_harness.pictures.drawn import Picture


def picture() -> Picture:
    """One layer of the bundled adapter's model, and its way to the server."""
    names = list(bundled_adapter().modules)
    layers = {name.split(".")[2] for name in names}
    kinds = sorted({name.rsplit(".", 1)[1] for name in names})
    p = Picture(
        "two-planes",
        "A language model in two planes: base model in the clear, adapter under encryption",
        "The client runs the whole base model in the clear, from tokens to the next token. In each of "
        f"{len(layers)} layers the input of {' and '.join(kinds)} goes to the server encrypted, and Δ of both comes "
        "back encrypted and is added before attention. The server has the adapter and none of the base model.",
    )
    p.box(14, 14, 258, 500, "room")
    p.text(143, 38, "Client: base model, in the clear", "small bold", "middle")
    p.box(318, 14, 148, 500, "room")
    p.text(392, 38, "Server: adapter", "small bold", "middle")
    p.box(38, 52, 210, 34, "plain", ["tokens, embedding"])
    p.box(26, 112, 234, 298, "paper")
    p.rule(26, 112, 260, 112, "dashed")
    p.rule(26, 410, 260, 410, "dashed")
    p.text(38, 128, f"layer 1 … {len(layers)}", "small dim")
    p.arrow((143, 86), (143, 142))
    p.box(38, 142, 210, 34, "client", ["x"])
    p.arrow((143, 176), (143, 208))
    p.box(38, 208, 210, 40, "plain", [", ".join(kinds)])
    p.arrow((143, 248), (143, 282))
    p.box(38, 282, 210, 34, "client", ["W · x + Δ"])
    p.arrow((143, 316), (143, 350))
    p.box(38, 350, 210, 48, "plain", ["attention, cache,", "feed-forward"])
    p.arrow((143, 398), (143, 432))
    p.box(38, 432, 210, 34, "plain", ["logits, next token"])
    p.text(143, 496, "any causal model, unmodified", "small dim", "middle")
    p.arrow((248, 159), (330, 159))
    p.lock(289, 137)
    p.box(330, 132, 124, 194, "server", [
        ("down, up", "bold"), *((f"of {kind}", "small") for kind in kinds), "",
        ("Δ = (α/r)·", "small"), ("up · down · x", "small")])  # fmt: skip
    p.arrow((330, 299), (248, 299))
    p.lock(289, 277)
    p.text(392, 356, "one message up,", "small", "middle")
    p.text(392, 375, "one down, for each", "small", "middle")
    p.text(392, 394, "layer and token", "small", "middle")
    p.text(392, 440, "no base model,", "small dim", "middle")
    p.text(392, 459, "no token, no text", "small dim", "middle")
    return p
