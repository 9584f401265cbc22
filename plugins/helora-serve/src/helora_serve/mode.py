"""Who runs what, by the names that stand in every log line, header and page. There is one mode so far."""

from __future__ import annotations

CLIENT_KEY = "client-key"
HEADER = "x-helora-mode"

SEES = (
    "ciphertexts, or activations under a pad",
    "evaluation keys",
    "names of modules",
    "numbers of tokens",
    "times and addresses",
)
"""What the server sees in mode ``client-key``: no text, token, activation or Δ, and no secret key."""
