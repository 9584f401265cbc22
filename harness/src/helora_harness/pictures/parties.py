"""What helora is, in one picture: a client with activations, a server with an adapter, and Δ."""

from __future__ import annotations

from helora_harness.pictures.drawn import Picture


def picture() -> Picture:
    """The picture of the home page."""
    p = Picture(
        "parties",
        "The client encrypts x, the server computes Δ on ciphertexts, the client decrypts Δ",
        "The client has the secret key and the activations x. It sends x encrypted. The server has the adapter's "
        "weights, down and up. It computes Δ under encryption, sanitises it, and sends it back encrypted. The server "
        "sees ciphertexts and shapes; the client sees Δ and no weights.",
    )
    p.box(16, 16, 448, 122, "client")
    p.text(32, 42, "Client", "big bold")
    p.text(32, 68, "has: activations x, the secret key")
    p.text(32, 93, "sees: x and Δ, in the clear")
    p.text(32, 118, "never sees: the weights", "dim")
    p.arrow((120, 138), (120, 216))
    p.lock(133, 163)
    p.text(151, 177, "x, encrypted")
    p.arrow((300, 216), (300, 138))
    p.lock(313, 163)
    p.text(331, 177, "Δ, encrypted")
    p.box(16, 216, 448, 148, "server")
    p.text(32, 242, "Server", "big bold")
    p.text(32, 268, "has: the LoRA adapter, down and up")
    p.text(32, 293, "computes: Δ = (α/r) · up · down · x")
    p.text(32, 318, "sees: ciphertexts, keys to compute with, shapes")
    p.text(32, 343, "never sees: x, Δ or the secret key", "dim")
    return p
