"""What is refused of models, beside the errors of helora-core."""

from __future__ import annotations

from helora_core.errors import HeloraError


class ModelUnsupported(HeloraError):
    """The model is of a kind, or in a state, in which its modules cannot be given Δ."""

    code = "model-unsupported"


class DeltaMissing(HeloraError):
    """A forward pass ended in which a module got no Δ: its result is not that of the adapted model."""

    code = "delta-missing"


class ModelUnavailable(HeloraError):
    """The base model cannot be had here: a library, a package or a file is missing."""

    code = "model-unavailable"
