"""What a client of mode ``split`` has of the base model: the embedding and the head."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from helora_core.errors import InvalidInput
from helora_serve.split.offer import digest_of

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
            InvalidInput: It is none, or its weights are of a type that NumPy does not have.
        """
        sha256, found = digest_of(folder), dict[str, NDArray[np.float32]]()
        try:
            for path in sorted(folder.glob("*.safetensors")):
                with safe_open(path, framework="np") as file:
                    for name in {_EMBEDDING, _HEAD} & set(file.keys()):
                        found[name] = file.get_tensor(name).astype(np.float32)
        except (SafetensorError, TypeError, OSError) as error:
            raise InvalidInput(
                f"{folder}: its weights could not be read ({error}).", hint="Save the model once more, in float32."
            ) from error
        if _EMBEDDING not in found:
            raise InvalidInput(f"{folder}: it has no {_EMBEDDING}.", hint="Use a model of Llama's shape.")
        return cls(found[_EMBEDDING], found.get(_HEAD, found[_EMBEDDING]), sha256)
