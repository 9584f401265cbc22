"""Who runs what, by the names that stand in every log line, header and page."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

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


class ModeDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A mode, as ``GET /v1/modes`` names it.

    Attributes:
        mode: Its name.
        routes: Paths of its own.
        sees: What the server sees.
        warning: What clients have to know before they use it; empty if the server sees nothing in clear.
    """

    mode: str
    routes: tuple[str, ...]
    sees: tuple[str, ...]
    warning: str = ""


class ModesDocument(msgspec.Struct, frozen=True, kw_only=True):
    """All modes that a server has."""

    modes: tuple[ModeDocument, ...]


_ALL = {
    CLIENT_KEY: ModeDocument(mode=CLIENT_KEY, routes=("/v1/offer", "/v1/keys", "/v1/delta"), sees=SEES),
    SPLIT: ModeDocument(
        mode=SPLIT,
        routes=("/v1/split/offer", "/v1/split", "/v1/split/selftest"),
        sees=SPLIT_SEES,
        warning=SPLIT_WARNING,
    ),
    HOSTED: ModeDocument(
        mode=HOSTED, routes=("/v1/chat/completions", "/v1/chat/compare"), sees=HOSTED_SEES, warning=HOSTED_WARNING
    ),
}


def modes_of(names: Sequence[str]) -> ModesDocument:
    """The document of the modes of these names."""
    return ModesDocument(modes=tuple(_ALL[name] for name in names))


def of_route(path: str, otherwise: str = CLIENT_KEY) -> str:
    """The mode of what is served at a path; ``otherwise`` if it is of no mode alone."""
    if path == "/v1/split" or path.startswith("/v1/split/"):
        return SPLIT
    return HOSTED if path.startswith("/v1/chat/") else otherwise


def of_logger(name: str) -> str:
    """The mode of what a logger tells."""
    return {"helora.serve.split": SPLIT, "helora.serve.hosted": HOSTED}.get(name, CLIENT_KEY)
