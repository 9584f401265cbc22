"""What a client of mode ``split`` has of the base model: the embedding and the head."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from helora_core.errors import InvalidInput
from helora_serve.split.offer import digest_of
from helora_serve.split.stored import Stored

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


class Ends(NamedTuple):
    """Both ends of a model.

    Attributes:
        embedding: (vocabulary, hidden), float32.
        head: (vocabulary, hidden), float32; the embedding itself where it is shared.
        sha256: Digest of the base model, as ``digest_of`` computes it.
    """

    embedding: NDArray[np.float32]
    head: NDArray[np.float32]
    sha256: str

    @classmethod
    def of(cls, folder: Path) -> Ends:
        """Those of a model of Llama's shape, as transformers saves it. Nothing else of it is read into memory.

        Raises:
            InvalidInput: It is none, or its weights cannot be read.
        """
        sha256, stored = digest_of(folder), Stored(folder)
        if not stored.has(_EMBEDDING):
            raise InvalidInput(f"{folder}: it has no {_EMBEDDING}.", hint="Use a model of Llama's shape.")
        embedding = stored.matrix(_EMBEDDING)
        return cls(embedding, stored.matrix(_HEAD) if stored.has(_HEAD) else embedding, sha256)
