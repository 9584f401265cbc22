"""What a model needs, and what to say where it is not installed."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from helora_core.errors import HeloraError
from helora_core.installing import install_line

PACKAGES = ("torch", "transformers", "peft")
BASE = Path.home() / ".cache" / "helora" / "smollm2-135m-instruct-f32"
"""Where examples/smollm2_lora leaves SmolLM2-135M-Instruct."""


class ModelsMissing(HeloraError):
    """A package that runs models is not installed, or there is no base model."""

    code: ClassVar[str] = "models-missing"


def require_packages() -> dict[str, str]:
    """Versions of the packages that run models, without local tags such as ``+cpu``.

    Raises:
        ModelsMissing: One is not installed.
    """
    missing = [name for name in (*PACKAGES, "helora_transformers") if find_spec(name) is None]
    if missing:
        raise ModelsMissing(
            f"bench lm: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed.",
            hint=f"pip install torch 'peft>=0.21'; {install_line('lm')}. Without them: --only shapes.",
        )
    return {name: version(name).split("+")[0] for name in PACKAGES}


def require_base(base: Path) -> Path:
    """The folder of a base model.

    Raises:
        ModelsMissing: There is none.
    """
    if not (base / "config.json").is_file():
        raise ModelsMissing(
            f"bench lm: {base} holds no model (it has no config.json).",
            hint="Convert SmolLM2-135M-Instruct once, as examples/smollm2_lora/README.md says; or give --base DIR.",
        )
    return base
