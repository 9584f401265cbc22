"""Who runs what, by the names that stand in every log line, header and page."""

from __future__ import annotations

CLIENT_KEY = "client-key"
SPLIT = "split"
HOSTED = "hosted"
HEADER = "x-helora-mode"

SEES = (
    "ciphertexts, or activations under a pad",
    "evaluation keys",
    "names of modules",
    "numbers of tokens",
    "times and addresses",
)
"""What the server sees in mode ``client-key``: no text, token, activation or Δ, and no secret key."""

SPLIT_SEES = (
    "hidden states in clear, which give every token of the prompt and of the answer away",
    "numbers of tokens",
    "times and addresses",
)
"""What the server sees in mode ``split``. The first rows are rows of the embedding: the nearest one is the token."""

HOSTED_SEES = ("all text, tokens, activations and Δ", "times and addresses")
"""What the server sees in mode ``hosted``: everything."""

SPLIT_WARNING = (
    "The server sees hidden states in clear, and can read every token in them: this is not private from the server."
)
HOSTED_WARNING = "The server sees everything; encryption protects nothing from it."


def of_route(path: str) -> str:
    """The mode of what is served at a path."""
    if path == "/v1/split" or path.startswith("/v1/split/"):
        return SPLIT
    return HOSTED if path.startswith("/v1/chat/") else CLIENT_KEY


def of_logger(name: str) -> str:
    """The mode of what a logger tells."""
    return {"helora.serve.split": SPLIT, "helora.serve.hosted": HOSTED}.get(name, CLIENT_KEY)
