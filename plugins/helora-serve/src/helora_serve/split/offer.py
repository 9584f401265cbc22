"""``GET /v1/split/offer``: what the route ``/v1/split`` serves, and what it sees. All of it is public."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from helora_core.errors import InvalidInput
from helora_serve.mode import SPLIT, SPLIT_SEES, SPLIT_WARNING
from helora_serve.split.frames import DTYPES, PATH, SUBPROTOCOL

FORMAT, SCHEMA = "helora-split-offer", 1
_PIECE = 1 << 20


class SplitBase(msgspec.Struct, frozen=True, kw_only=True):
    """The base model.

    Attributes:
        name: The folder's.
        sha256: What ``open`` names it by, as ``digest_of`` computes it.
        hidden, layers, vocabulary: Its shape.
    """

    name: str
    sha256: str
    hidden: int
    layers: int
    vocabulary: int


class SplitOffer(msgspec.Struct, frozen=True, kw_only=True):
    """The offer.

    Attributes:
        format, schema: ``helora-split-offer`` and its version.
        mode: ``split``.
        sees, warning: What the server sees, as a list and in a sentence.
        subprotocol, path: Of the WebSocket.
        base: The base model.
        adapters: Names for ``open``; None there is the base model alone.
        encrypted: Whether Δ is computed encrypted, with both parties in the server: that protects nothing from it.
        dtypes: For ``open``.
        most_tokens, most_positions: Most rows of a request, and most positions of a context.
        ttl_s: Seconds without a frame after which a session is dropped.
    """

    format: str = FORMAT
    schema: int = SCHEMA
    mode: str = SPLIT
    sees: tuple[str, ...] = SPLIT_SEES
    warning: str = SPLIT_WARNING
    subprotocol: str = SUBPROTOCOL
    path: str = PATH
    base: SplitBase
    adapters: tuple[str, ...]
    encrypted: bool
    dtypes: tuple[str, ...] = tuple(DTYPES)
    most_tokens: int
    most_positions: int
    ttl_s: float


def digest_of(folder: Path) -> str:
    """The digest that names a base model.

    It is SHA-256 over a line ``NAME SHA256``, with its line feed, for ``config.json``, each ``*.safetensors``, and
    ``tokenizer.json`` if there is one, sorted by name.

    Raises:
        InvalidInput: There is no ``config.json``, or no weights; or a file cannot be read.
    """
    names = sorted(
        each.name
        for each in (folder / "config.json", folder / "tokenizer.json", *folder.glob("*.safetensors"))
        if each.is_file()
    )
    if "config.json" not in names or not any(each.endswith(".safetensors") for each in names):
        raise InvalidInput(
            f"{folder}: there is no config.json, or no safetensors, so it is no base model.",
            hint="Give the folder of a model that save_pretrained wrote.",
        )
    return hashlib.sha256("".join(f"{name} {_sha256(folder / name)}\n" for name in names).encode()).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read ({error.strerror or error}).", hint="Check its permissions."
        ) from error
    return digest.hexdigest()
