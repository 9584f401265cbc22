"""The roles of helora-rns on the device: each call in this thread's stream, and many vectors at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import SLOTS, Values
from helora_cupy.running import Running
from helora_rns.backend import RNSDecryptor, RNSEncoder, RNSEvaluator
from helora_rns.scheme.ciphertexts import Ciphertext

Role = TypeVar("Role", bound=type[Any])


def _working(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **options: Any) -> Any:
        device: Running = self._ring.kernels.device
        with device.working():
            return method(self, *args, **options)

    return call


def on_device(*names: str) -> Callable[[Role], Role]:
    """Have a class's methods of these names, inherited or its own, work in their thread's stream."""

    def changed(role: Role) -> Role:
        for name in names:
            setattr(role, name, _working(getattr(role, name)))
        return role

    return changed


@on_device("encode")
class CupyEncoder(RNSEncoder):
    """Plaintexts that stay on the device."""


@on_device("serialize", "deserialize", "encrypt", "decrypt", "encrypt_many", "decrypt_many")
class CupyDecryptor(RNSDecryptor):
    """The client's role."""

    def encrypt_many(self, many: Sequence[Values], *, scale: float, encoding: Encoding = SLOTS) -> list[Ciphertext]:
        return [self.encrypt(values, scale=scale, encoding=encoding) for values in many]

    def decrypt_many(self, ciphertexts: Sequence[Any], *, encoding: Encoding = SLOTS) -> list[Values]:
        return [self.decrypt(each, encoding=encoding) for each in ciphertexts]


@on_device(
    "serialize", "deserialize", "add", "sub", "negate", "add_plain", "multiply_plain", "dot_plain", "rescale", "rotate",
    "rotate_many", "encrypt_public", "sanitize_many", "shortened", "uniform_mask", "prepare_zeros",
)  # fmt: skip
class CupyEvaluator(RNSEvaluator):
    """The server's role."""
