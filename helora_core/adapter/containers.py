"""Tells what kind of file or directory a path is, by its first bytes and names, and writes the refusals of each kind.

No more is read than that takes. Pickles are recognised, never loaded, and no hint advises loading one.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from helora_core.adapter.names import natural_key
from helora_core.errors import AdapterFormatError

CONFIG_FILE = "adapter_config.json"
TENSOR_FILE = "adapter_model.safetensors"
MLX_FILE = "adapters.safetensors"
DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"

_MOST_HEADER_BYTES = 32 << 20
_MOST_CONFIG_BYTES = 4 << 20
_FIRST_BYTES = 512

_NESTED_DEPTH = 6
_NESTED_ENTRIES = 20_000
_NESTED_OPENED = 100
_NESTED_SHOWN = 6

_SAVE_AGAIN = "Have it saved again as safetensors where it was made, as PEFT's save_pretrained does by default."


class Kind(Enum):
    """Kinds of files; messages name a kind by its value."""

    SAFETENSORS = "a safetensors file"
    GGUF = "a GGUF file"
    NPY = "a NumPy array (.npy)"
    NPZ = "a NumPy archive (.npz)"
    TORCH_ZIP = "a file of torch.save, a zip archive around a pickle"
    PICKLE = "a pickle, as torch.save and pickle.dump write"
    ZIP = "a zip archive"
    TAR = "a tar archive"
    COMPRESSED = "a compressed file"
    HDF5 = "an HDF5 file, as Keras writes"
    GGLA = "a LoRA file of llama.cpp from before GGUF"
    LFS_POINTER = "a pointer of git LFS, not the file that it stands for"
    WEB_PAGE = "a web page"
    JSON = "JSON"
    EMPTY = "empty"
    SPECIAL = "a pipe or a device, not a plain file"
    UNKNOWN = "of no known kind"


_MAGIC = (
    (b"GGUF", Kind.GGUF),
    (b"\x93NUMPY", Kind.NPY),
    (b"\x89HDF\r\n\x1a\n", Kind.HDF5),
    (b"algg", Kind.GGLA),
    (b"ggla", Kind.GGLA),
    (b"version https://git-lfs", Kind.LFS_POINTER),
    (b"\x1f\x8b", Kind.COMPRESSED),
    (b"\x28\xb5\x2f\xfd", Kind.COMPRESSED),
    (b"7z\xbc\xaf\x27\x1c", Kind.COMPRESSED),
    (b"BZh", Kind.COMPRESSED),
    (b"\xfd7zXZ", Kind.COMPRESSED),
)


def kind_of(path: Path) -> Kind:
    """The kind of a file.

    Raises:
        OSError: It cannot be read, or is a directory.
    """
    first = _first_bytes(path, _FIRST_BYTES)
    if first is None:
        return Kind.SPECIAL
    if not first:
        return Kind.EMPTY
    for magic, kind in _MAGIC:
        if first.startswith(magic):
            return kind
    if first[:2] == b"PK":
        return _kind_of_zip(first)
    if first[8:9] == b"{" and int.from_bytes(first[:8], "little") <= path.stat().st_size:
        return Kind.SAFETENSORS
    if first[:1] == b"\x80" and first[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return Kind.PICKLE
    if first[257:262] == b"ustar":
        return Kind.TAR
    text = first.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return Kind.WEB_PAGE
    return Kind.JSON if text.startswith((b"{", b"[")) else Kind.UNKNOWN


def _first_bytes(path: Path, count: int) -> bytes | None:
    """Up to ``count`` bytes from a file's beginning; None for a pipe or a device, which is not opened."""
    found = path.stat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return None
    with open(path, "rb") as file:
        return file.read(count)


def first_member(path: Path) -> str:
    """The name of a zip archive's first member, from the file's first bytes; empty if it is not a zip archive."""
    return _first_member(_first_bytes(path, _FIRST_BYTES) or b"")


def _first_member(first: bytes) -> str:
    # a local file header, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT 4.3.7
    length = int.from_bytes(first[26:28], "little")
    return first[30 : 30 + length].decode("utf-8", "replace") if first.startswith(b"PK\x03\x04") else ""


def _kind_of_zip(first: bytes) -> Kind:
    member = _first_member(first)
    if member.endswith(".npy") or first.startswith(b"PK\x05\x06"):
        return Kind.NPZ
    return Kind.TORCH_ZIP if _OF_TORCH.fullmatch(member) else Kind.ZIP


# torch.save begins with the pickle, TorchScript with one of the others
_OF_TORCH = re.compile(r".*(\.pkl|/version|/byteorder|/\.format_version|/code/.*|/data/[0-9]+)")


def safetensors_header(path: Path) -> tuple[dict[str, str], list[str]]:
    """The metadata of a safetensors file and the names of its tensors; both empty if the header is not valid.

    This only tells formats apart before any tensor is read; `read_safetensors` checks the file.
    """
    try:
        length = int.from_bytes(_first_bytes(path, 8) or b"", "little")
        header = (_first_bytes(path, 8 + length) or b"")[8:] if length <= _MOST_HEADER_BYTES else b""
        entries: dict[str, Any] = msgspec.json.decode(header, type=dict[str, Any])
        metadata = msgspec.convert(entries.pop("__metadata__", None) or {}, dict[str, str])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}, []
    return metadata, list(entries)


def config_fields(path: Path) -> dict[str, Any]:
    """The fields of an ``adapter_config.json``, to tell which tool wrote it; empty if the file is not one."""
    try:
        content = _first_bytes(path, _MOST_CONFIG_BYTES)
        fields: dict[str, Any] = msgspec.json.decode(content or b"", type=dict[str, Any])
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return fields


def refuse_file(path: Path, kind: Kind) -> AdapterFormatError:
    """The refusal of an adapter file of an unsupported kind; the hint says what to give instead."""
    return AdapterFormatError(f"{path}: it is {kind.value}.", hint=_WAYS_OUT.get(kind, _READ))


_READ = (
    f"Give a directory of PEFT (with {CONFIG_FILE} and {TENSOR_FILE}) or of MLX, a .safetensors file of kohya or "
    "diffusers, a LoRA as GGUF, or an .npz file of save_npz."
)
_NO_PICKLE = (
    f"A pickle can run any code when it is loaded, so none is read. {_SAVE_AGAIN} Its directory has {CONFIG_FILE} and "
    f"{TENSOR_FILE}."
)
_WAYS_OUT = {
    Kind.TORCH_ZIP: _NO_PICKLE,
    Kind.PICKLE: _NO_PICKLE,
    Kind.ZIP: f"Unpack it, and give the directory that holds {CONFIG_FILE}, or fetch the .npz again.",
    Kind.TAR: f"Unpack it, and give the directory that holds {CONFIG_FILE}.",
    Kind.COMPRESSED: f"Unpack it, and give the directory that holds {CONFIG_FILE}.",
    Kind.HDF5: "Convert the adapter to PEFT's format, or write .npz with save_npz.",
    Kind.GGLA: "Convert the PEFT adapter again with llama.cpp's convert_lora_to_gguf.py, or give the PEFT directory.",
    Kind.LFS_POINTER: "Fetch the file itself with git lfs pull.",
    Kind.WEB_PAGE: "Fetch the file itself: a download page, or the refusal of one, was saved in its place.",
    Kind.JSON: f"Give the directory that holds {CONFIG_FILE} and {TENSOR_FILE}, not a file in it.",
    Kind.EMPTY: "Fetch or save it again: a download or a training run ended before anything was written. Give the "
    f"directory that holds {CONFIG_FILE} and {TENSOR_FILE}.",
}


def check_peft_directory(root: Path) -> None:
    """Check that both of PEFT's files are there.

    Raises:
        AdapterFormatError: One is missing; the message names what is there instead.
    """
    if not root.is_dir():
        raise AdapterFormatError(
            f"{root}: is not a directory.", hint=f"Give the directory that holds {CONFIG_FILE} and {TENSOR_FILE}."
        )
    if not (root / CONFIG_FILE).exists():
        raise _no_config(root)
    if not (root / TENSOR_FILE).exists():
        raise _no_tensors(root)


_OF_ARTIFACTS = "manifest.json"
"""The file that makes a directory an artifact (``helora_core.artifact``)."""


def _no_config(root: Path) -> AdapterFormatError:
    found = sorted(nested_adapters(root), key=lambda path: natural_key(str(path)))
    if (root / _OF_ARTIFACTS).exists():
        hint = f"{_OF_ARTIFACTS} is there: what helora compile wrote is run with helora run --artifact {root}"
    elif found:
        shown = ", ".join(map(str, found[:_NESTED_SHOWN]))
        more = f" and {len(found) - _NESTED_SHOWN} more" if len(found) > _NESTED_SHOWN else ""
        hint = f"Give one of the adapters in it: {shown}{more}."
    elif (root / TENSOR_FILE).exists():
        hint = f"{TENSOR_FILE} is there: fetch the {CONFIG_FILE} that belongs to it, which has r and lora_alpha."
    elif sharded := next(iter(_sharded(root)), None):
        hint = f"{sharded} looks like a part of a training checkpoint: {_GATHER}"
    elif pickled := next((name for name in _names(root) if name.endswith((".bin", ".pt", ".pth", ".ckpt"))), None):
        hint = f"{pickled} looks like a pickle, which can run any code when it is loaded: none is read. {_SAVE_AGAIN}"
    else:
        hint = f"Give the directory that PEFT's save_pretrained wrote, with {CONFIG_FILE} and {TENSOR_FILE}."
    return AdapterFormatError(f"{root}: there is no {CONFIG_FILE}.", hint=hint)


_GATHER = "gather it into one state dict first, and save the adapter with PEFT's save_pretrained."


def _no_tensors(root: Path) -> AdapterFormatError:
    missing = f"{root}: there is no {TENSOR_FILE}"
    names = _names(root)
    pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if f"{TENSOR_FILE}.index.json" in names or any(name.startswith("adapter_model-0") for name in names):
        return AdapterFormatError(
            f"{missing}, only parts of it.", hint="Save it in one file: save_pretrained(…, max_shard_size='100GB')."
        )
    if pickled:
        return AdapterFormatError(
            f"{missing}, only {pickled[0]}, a pickle, which can run any code when it is loaded.", hint=_SAVE_AGAIN
        )
    if sharded := next(iter(_sharded(root)), None):
        return AdapterFormatError(
            f"{missing}, but {sharded}, a part of a training checkpoint.", hint=f"{_GATHER[0].upper()}{_GATHER[1:]}"
        )
    others = ", ".join(name for name in names if name.endswith((".safetensors", ".gguf", ".npz")))
    return AdapterFormatError(
        f"{missing}.",
        hint=f"If its matrices are in {others}, name that {TENSOR_FILE}, or give that file by itself."
        if others
        else f"Give the directory that PEFT's save_pretrained wrote, with {CONFIG_FILE} and {TENSOR_FILE}.",
    )


def _names(root: Path) -> list[str]:
    """Up to a few thousand names in a directory, in natural order; none if it cannot be read."""
    names = []
    try:
        for entry in root.iterdir():
            names.append(entry.name)
            if len(names) == _NESTED_ENTRIES:
                break
    except OSError:
        pass
    return sorted(names, key=natural_key)


def _sharded(root: Path) -> Iterator[str]:
    """The names that are those of a checkpoint's shards, as DeepSpeed and FSDP write them."""
    for name in _names(root):
        if name.startswith(("global_step", "pytorch_model_fsdp")) or name.endswith((".distcp", "_optim_states.pt")):
            yield name


def nested_adapters(root: Path) -> list[Path]:
    """Adapters some levels below a directory without a configuration, to be named as alternatives.

    Links and hidden directories are not followed, and the walk is bounded in depth and entries.
    """
    found: list[Path] = []
    level, entries, opened = [root], 0, 0
    for depth in range(_NESTED_DEPTH + 1):
        below: list[Path] = []
        for directory in level:
            try:
                listing = list(islice(directory.iterdir(), _NESTED_ENTRIES + 1))
            except OSError:
                continue
            entries += len(listing)
            if entries > _NESTED_ENTRIES:
                return found
            for entry in sorted(listing, key=lambda path: natural_key(path.name)):
                if entry.name.startswith(".") or entry.is_symlink():
                    continue
                if entry.is_dir():
                    below.append(entry)
                elif entry.name == CONFIG_FILE and depth:
                    found.append(directory)
                elif entry.name.endswith((".safetensors", ".gguf", ".npz")) and not (directory / CONFIG_FILE).exists():
                    opened += 1
                    found += [entry] if opened <= _NESTED_OPENED and holds_lora(entry) else []
        level = below
    return found


def holds_lora(path: Path) -> bool:
    """Whether a file looks like an adapter that can be read alone, by its name or the names of its tensors."""
    if path.name == TENSOR_FILE or path.suffix != ".safetensors":
        return path.suffix == ".gguf" and "lora" in path.name.lower()
    _, names = safetensors_header(path)
    return any("lora" in name for name in names)
