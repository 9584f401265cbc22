"""LoRA adapters as data, and the plaintext result that encrypted results are compared with.

A LoRA module adds Δ(x) = scaling · up · (down · x) to a linear layer. PEFT calls the two matrices ``lora_A`` and
``lora_B``, other code swaps the letters; here they are ``down`` (r × d_in) and ``up`` (d_out × r), always.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, TypeGuard

import msgspec
import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.names import close_names, matches, natural_key
from helora_core.errors import AdapterFormatError, InvalidInput

FloatArray: TypeAlias = NDArray[np.float64]

_SHAPE_TEXT = re.compile(r"([0-9]{1,9}):([0-9]{1,9}):([0-9]{1,9})")
_DIGEST_FORMAT = b"helora adapter 1\0"


class ModuleShape(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of one LoRA module, written ``d_in:d_out:r`` as in ``1536:256:16``.

    Attributes:
        d_in: Width of the activations that enter.
        d_out: Width of Δ.
        rank: r, the width in between.

    Raises:
        InvalidInput: A dimension is not a positive ``int``.
    """

    d_in: int
    d_out: int
    rank: int

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InvalidInput(
                    f"ModuleShape: {name} is {value!r}, not a positive int.",
                    hint="Give d_in, d_out and rank as positive whole numbers.",
                )

    @classmethod
    def parse(cls, text: str) -> ModuleShape:
        """Read ``d_in:d_out:r``.

        Raises:
            InvalidInput: ``text`` is not three positive whole numbers joined by colons.
        """
        found = _SHAPE_TEXT.fullmatch(text)
        if found is None:
            raise InvalidInput(
                f"ModuleShape: {text!r} is not a shape.",
                hint="Write d_in:d_out:r, for example 1536:256:16.",
            )
        d_in, d_out, rank = map(int, found.groups())
        return cls(d_in=d_in, d_out=d_out, rank=rank)

    def __str__(self) -> str:
        return f"{self.d_in}:{self.d_out}:{self.rank}"


@dataclass(frozen=True, eq=False)
class LoRAModule:
    """The LoRA matrices of one linear layer, copied and made read-only.

    Attributes:
        name: Dotted path of the layer in the base model, as in ``model.layers.3.self_attn.q_proj``.
        down: r × d_in, float64 (PEFT's ``lora_A``). Given as any real float array, it is widened, which is exact.
        up: d_out × r, float64 (PEFT's ``lora_B``).
        scaling: The factor of the product: α/r, or α/√r for rank-stabilised LoRA.

    Raises:
        AdapterFormatError: A matrix is not a finite, non-empty 2-D float array, the two disagree on the rank, the
            scaling is not finite, or the name is empty or not printable text.
    """

    name: str
    down: FloatArray = field(repr=False)
    up: FloatArray = field(repr=False)
    scaling: float

    def __post_init__(self) -> None:
        _check_name(self.name)
        object.__setattr__(self, "down", _matrix(self.name, "down", "r × d_in", self.down))
        object.__setattr__(self, "up", _matrix(self.name, "up", "d_out × r", self.up))
        object.__setattr__(self, "scaling", _scaling(self.name, self.scaling))
        if self.up.shape[1] != self.down.shape[0]:
            raise AdapterFormatError(
                f"LoRA module {self.name!r}: down is {_dims(self.down)} and up is {_dims(self.up)}; "
                f"the ranks {self.down.shape[0]} and {self.up.shape[1]} differ.",
                hint="Give down as r × d_in (PEFT's lora_A) and up as d_out × r (PEFT's lora_B), neither transposed.",
            )

    @property
    def shape(self) -> ModuleShape:
        """d_in, d_out and rank."""
        return ModuleShape(d_in=self.down.shape[1], d_out=self.up.shape[0], rank=self.down.shape[0])

    @property
    def scaled_up(self) -> FloatArray:
        """scaling · up, d_out × r, float64. Packings encode this product, so that the scaling costs no level."""
        return self.scaling * self.up

    def reference_delta(self, x: NDArray[np.floating[Any]]) -> FloatArray:
        """Δ in plain float64, the reference for every encrypted result.

        Args:
            x: Activations, tokens × d_in, float16, float32 or float64, finite.

        Returns:
            scaling · (x · downᵀ) · upᵀ, tokens × d_out, float64.

        Raises:
            InvalidInput: ``x`` is not such an array, or so large that Δ is not finite.
        """
        values = self._checked_activations(x)
        with np.errstate(over="ignore", invalid="ignore"):
            delta: FloatArray = self.scaling * ((values @ self.down.T) @ self.up.T)
        if not np.isfinite(delta).all():
            raise InvalidInput(
                f"LoRA module {self.name!r}: the activations are so large that Δ overflows float64.",
                hint="Check the activations; a language model's are rarely above a few thousand.",
            )
        return delta

    def _checked_activations(self, x: object) -> FloatArray:
        d_in = self.down.shape[1]
        if not _is_real_float(x):
            raise InvalidInput(
                f"LoRA module {self.name!r}: activations are {_kind(x)}, not a real float array.",
                hint="Pass a NumPy array of float16, float32 or float64.",
            )
        if x.ndim != 2 or x.shape[1] != d_in:
            raise InvalidInput(
                f"LoRA module {self.name!r}: activations are {_dims(x)}, not tokens × {d_in}.",
                hint=f"Pass one row of {d_in} values per token; a single token is a 1 × {d_in} array.",
            )
        if not np.isfinite(x).all():
            raise InvalidInput(
                f"LoRA module {self.name!r}: activations hold NaN or infinity.",
                hint="Look for the overflow in the layer before; float16 activations overflow above 65504.",
            )
        return x.astype(np.float64)


@dataclass(frozen=True, eq=False)
class LoRAAdapter:
    """A set of LoRA modules that belong together.

    Attributes:
        modules: The modules by name, in natural order (layer 2 before layer 10) whatever the order given; read-only.
        source: Where they came from, for people to read; not part of the digest.

    Raises:
        AdapterFormatError: There is no module, or one is filed under a name that is not its own.
    """

    modules: Mapping[str, LoRAModule]
    source: str

    def __post_init__(self) -> None:
        if not self.modules:
            raise AdapterFormatError(
                f"LoRA adapter {self.source}: it has no module.", hint="Give an adapter of at least one LoRA module."
            )
        for name, module in self.modules.items():
            if name != module.name:
                raise AdapterFormatError(
                    f"LoRA adapter {self.source}: module {module.name!r} is filed under {name!r}.",
                    hint="File each module under its own name, or use LoRAAdapter.from_modules.",
                )
        ordered = {name: self.modules[name] for name in sorted(self.modules, key=natural_key)}
        object.__setattr__(self, "modules", MappingProxyType(ordered))

    @classmethod
    def from_modules(cls, modules: Iterable[LoRAModule], *, source: str) -> LoRAAdapter:
        """Collect modules.

        Raises:
            AdapterFormatError: There is none, or two have the same name.
        """
        by_name: dict[str, LoRAModule] = {}
        for module in modules:
            if by_name.setdefault(module.name, module) is not module:
                raise AdapterFormatError(
                    f"LoRA adapter {source}: there are two modules {module.name!r}.",
                    hint="Give each module once; two adapters of one layer are two LoRAAdapters.",
                )
        return cls(by_name, source)

    def select(self, name: str) -> tuple[LoRAModule, ...]:
        """The modules that ``name`` means, in natural order.

        Args:
            name: ``"all"``; a module's full name; or a pattern. A pattern is compared with the full name and with
                every ending of it that starts after a dot, and ``*``, ``?`` and ``[…]`` in it are shell wildcards (a
                ``*`` crosses dots). So ``q_proj``, ``*.q_proj`` and ``self_attn.q_proj`` mean every layer's q_proj,
                ``layers.3.self_attn.q_proj`` that layer's, and ``layers.[0-3].*_proj`` all projections of layers 0–3;
                ``proj`` alone matches nothing, since no component has that name.

        Raises:
            InvalidInput: No module matches; the hint has names that are close.
        """
        if name == "all":
            return tuple(self.modules.values())
        if name in self.modules:
            return (self.modules[name],)
        chosen = tuple(module for module in self.modules.values() if matches(module.name, name))
        if not chosen:
            close = ", ".join(close_names(name, self.modules))
            first = ", ".join(list(self.modules)[:3])
            raise InvalidInput(
                f"LoRA adapter {self.source}: no module matches {name!r}.",
                hint=f"Did you mean {close}?" if close else f"Use all, or a name or its ending; the first are {first}.",
            )
        return chosen

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, over each module's name, shape, scaling and float64 values: the same on every platform.

        All numbers are hashed as little-endian bytes and each name after its length, so that different adapters never
        give the hash the same input.
        """
        state = hashlib.sha256(_DIGEST_FORMAT)
        for name, module in self.modules.items():
            encoded = name.encode()
            shape = module.shape
            state.update(
                struct.pack("<4Qd", len(encoded), shape.d_in, shape.d_out, shape.rank, module.scaling) + encoded
            )
            state.update(module.down.astype("<f8", copy=False).tobytes())
            state.update(module.up.astype("<f8", copy=False).tobytes())
        return state.hexdigest()


def module_from_file(source: Path, name: str, down: FloatArray, up: FloatArray, scaling: float) -> LoRAModule:
    """A `LoRAModule` whose refusals also name the file that it comes from."""
    try:
        return LoRAModule(name, down, up, scaling)
    except AdapterFormatError as error:
        raise AdapterFormatError(f"{source}: {error.message}", hint=error.hint) from None


def _check_name(name: object) -> None:
    # Names are shown in terminals and stored in zip archives: control characters would garble terminals and be cut off
    # in archives, and a lone surrogate has no encoding that a digest could cover.
    if not isinstance(name, str) or not name or not name.isprintable():
        raise AdapterFormatError(
            f"LoRA module: the name {name!r} is empty or not printable text.",
            hint="Name the module by its dotted path in the base model.",
        )


def _matrix(module: str, which: str, layout: str, values: object) -> FloatArray:
    if not _is_real_float(values):
        raise AdapterFormatError(
            f"LoRA module {module!r}: {which} is {_kind(values)}, not a real float array.",
            hint=f"Give {which} as a NumPy array of float16, float32 or float64, {layout}.",
        )
    if values.ndim != 2 or values.size == 0:
        raise AdapterFormatError(
            f"LoRA module {module!r}: {which} is {_dims(values)}, not a non-empty matrix.",
            hint=f"Give {which} as {layout}. An empty or flat tensor is usually a shard saved without being gathered.",
        )
    if not np.isfinite(values).all():
        raise AdapterFormatError(
            f"LoRA module {module!r}: {which} holds NaN or infinity.",
            hint="The training diverged or the file is damaged; take an earlier checkpoint.",
        )
    copy: FloatArray = np.array(values, dtype=np.float64, order="C")
    copy.setflags(write=False)
    return copy


def _scaling(module: str, value: object) -> float:
    if isinstance(value, (int, float, np.floating)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise AdapterFormatError(
        f"LoRA module {module!r}: scaling is {_kind(value)}, not a finite number.",
        hint="Give α/r, or α/√r for rank-stabilised LoRA.",
    )


def _is_real_float(values: object) -> TypeGuard[NDArray[np.floating[Any]]]:
    """Whether it is a real float array that float64 can hold exactly (float128 would be rounded)."""
    return isinstance(values, np.ndarray) and values.dtype.kind == "f" and values.dtype.itemsize <= 8


def _kind(values: object) -> str:
    return f"an array of {values.dtype}" if isinstance(values, np.ndarray) else f"a {type(values).__name__}"


def _dims(values: NDArray[Any]) -> str:
    return " × ".join(map(str, values.shape)) or "a scalar"
