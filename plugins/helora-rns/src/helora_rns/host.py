"""Where kernels of the CPU have their arrays: in the memory that NumPy's are in, so that nothing is ever copied."""

from __future__ import annotations

from helora_rns import arrays
from helora_rns.chacha20 import NO_NONCE, Stream
from helora_rns.kernels import Array


class OnHost:
    """The part of ``helora_rns.kernels.Kernels`` that says where arrays live."""

    empty = staticmethod(arrays.empty)
    private = staticmethod(arrays.private)

    @staticmethod
    def to_device(array: Array) -> Array:
        return array

    @staticmethod
    def to_host(array: Array) -> Array:
        return array

    @staticmethod
    def finish() -> None:
        return None

    @staticmethod
    def stream(seed: bytes, nonce: bytes = NO_NONCE) -> Stream:
        return Stream(seed, nonce)
