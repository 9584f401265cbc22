"""The roles of helora-rns on the device: each call in this thread's stream, and many vectors at once."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import SLOTS, Sanitizing, Values
from helora_cupy.running import Running
from helora_rns.backend import RNSDecryptor, RNSEncoder, RNSEvaluator, message_of, of_slots
from helora_rns.kernels import Doubles
from helora_rns.scheme import sampling
from helora_rns.scheme.ciphertexts import Ciphertext
from helora_rns.scheme.encoding import are_values, largest
from helora_rns.scheme.encryption import EXACT

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
        ring, kernels = self._ring, self._ring.kernels
        level, basis = ring.max_level, ring.basis(ring.max_level)
        messages = [message_of(ring, values, level, scale, encoding, basis) for values in many]
        if any(map(are_values, messages)):
            return [self._encryptor.encrypt(message, scale) for message in messages]
        together: Doubles = np.stack(messages)
        if largest(together) >= EXACT:
            return [self._encryptor.encrypt(message, scale) for message in messages]
        together += sampling.errors(ring, len(many))
        seeds = [sampling.fresh_seed() for _ in many]
        values = ring.residues((len(many), 2, len(basis), ring.ring_degree))
        noisy, a = kernels.values_of_doubles(together, basis), kernels.uniform_polynomials(seeds, basis)
        values[:, 0] = kernels.multiply_add(a, self._encryptor.minus, noisy, basis, out=noisy)
        values[:, 1] = a
        return [Ciphertext(own, level, scale, seed) for own, seed in zip(values, seeds, strict=True)]

    def decrypt_many(self, ciphertexts: Sequence[Any], *, encoding: Encoding = SLOTS) -> list[Values]:
        alike: defaultdict[tuple[type, int], list[int]] = defaultdict(list)
        for i, each in enumerate(ciphertexts):
            alike[type(each), each.level].append(i)
        found: dict[int, Values] = {}
        for places in alike.values():
            own = [ciphertexts[i] for i in places]
            found |= zip(places, self._opened(own, encoding), strict=True)
        return [found[i] for i in range(len(ciphertexts))]

    def _opened(self, ciphertexts: Sequence[Any], encoding: Encoding) -> list[Values]:
        """Of ciphertexts of one level and form; they leave the device together."""
        kernels, basis = self._ring.kernels, self._ring.basis(ciphertexts[0].level)
        messages = self._decryptor.residues_of_many(ciphertexts)
        if encoding is Encoding.INTEGERS:
            return list(kernels.to_host(messages))
        coefficients = [kernels.to_doubles(message, basis) for message in messages]
        scales = [each.scale for each in ciphertexts]
        if encoding is Encoding.COEFFICIENTS:
            whole = kernels.to_host(np.stack(coefficients))
            return [own / scale for own, scale in zip(whole, scales, strict=True)]
        pairs = zip(coefficients, scales, strict=True)
        slots = kernels.to_host(np.stack([kernels.coefficients_to_slots(own, 1.0 / scale) for own, scale in pairs]))
        return [of_slots(own, encoding) for own in slots]


@on_device(
    "serialize", "deserialize", "add", "sub", "negate", "add_plain", "multiply_plain", "dot_plain", "rescale", "rotate",
    "rotate_many", "encrypt_public", "sanitize_many", "shortened", "uniform_mask", "prepare_zeros",
)  # fmt: skip
class CupyEvaluator(RNSEvaluator):
    """The server's role."""

    def sanitize_many(self, ciphertexts: Sequence[Ciphertext], how: Sequence[Sanitizing]) -> list[Ciphertext]:
        alike: defaultdict[tuple[int, Sanitizing], list[int]] = defaultdict(list)
        for i, (each, wanted) in enumerate(zip(ciphertexts, how, strict=True)):
            alike[each.level, wanted].append(i)
        found: dict[int, Ciphertext] = {}
        for (_, wanted), places in alike.items():
            made = self._with_public_key.sanitized_together([ciphertexts[i] for i in places], wanted)
            found |= zip(places, made, strict=True)
        return [found[i] for i in range(len(ciphertexts))]
