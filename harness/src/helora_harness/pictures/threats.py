"""The threat model: what each party holds, against whom it is protected, and against what nothing protects it."""

from __future__ import annotations

from helora_harness.pictures.drawn import Picture

HELD = (
    ("server reads all it gets", "it has ciphertexts and no key"),
    ("client reads all it gets", "Δ alone: sanitised, to 2⁻⁴⁰"),
    ("somebody on the network", "TLS and tokens: helora serve"),
)
NOT_HELD = (
    ("d_in independent queries", "give up · down; limit queries"),
    ("client forges keys, answers", "learns more of the weights"),
    ("server computes otherwise", "a wrong Δ, and no proof"),
    ("client shares Δ, all its bits", "with ciphertexts: the secret key"),
    ("malformed messages", "the library's parser reads them"),
    ("time, caches, memory", "no constant time is claimed"),
)


def picture() -> Picture:
    """Two parties, three protections and six limits."""
    p = Picture(
        "threat-model",
        "The threat model: two honest but curious parties, what is covered and what is not",
        "The client holds the secret key, x and Δ, the server the weights. Covered: "
        + "; ".join(f"{who}: {what}" for who, what in HELD)
        + ". Not covered: "
        + "; ".join(f"{who}: {what}" for who, what in NOT_HELD)
        + ".",
    )
    p.box(14, 14, 176, 84, "client", [("Client", "bold"), ("keeps: x, Δ,", "small"), ("the secret key", "small")])
    p.box(290, 14, 176, 84, "server", [("Server", "bold"), ("keeps: down, up", "small"), ("of the adapter", "small")])
    p.arrow((190, 42), (290, 42))
    p.arrow((290, 72), (190, 72))
    p.lock(234, 20)
    p.lock(234, 78)
    y = 128.0
    p.text(14, y, "Covered", "bold")
    y += 10
    for who, what in HELD:
        p.box(14, y, 212, 34, "client", [(who, "small")])
        p.text(236, y + 22, what, "small")
        y += 40
    y += 22
    p.text(14, y, "Not covered", "bold")
    y += 10
    for who, what in NOT_HELD:
        p.box(14, y, 212, 34, "bad", [(who, "small")])
        p.text(236, y + 22, what, "small")
        y += 40
    p.text(14, y + 16, "Alpha, not audited. Both parties are honest but curious.", "small dim")
    return p
