"""What a card is checked by: it holds on the CPU, and notices a wrong kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helora_cupy import ring_checks
from helora_cupy.device import Shim


def test_all_checks_hold() -> None:
    assert ring_checks.check_all(Shim(), (1024,)) == 6


class Wrong(Shim):
    """One kernel's first result is off by one bit."""

    def __init__(self, kernel: str) -> None:
        super().__init__()
        self._wrong = kernel

    def launch(self, unit: Any, kernel: str, grid: Any, threads: int, args: Any, shared: int = 0) -> None:
        super().launch(unit, kernel, grid, threads, args, shared)
        if kernel == self._wrong:
            written = next(each for each in args[1 if kernel == "pointwise" else 0 :] if isinstance(each, np.ndarray))
            written.reshape(-1).view(np.uint8)[0] ^= 1


@pytest.mark.parametrize(
    "kernel", ["pointwise", "dot", "of_doubles", "to_doubles", "uniform_streams", "ternary_streams", "normal", "joined",
               "quotients", "pack", "unpack", "rounded"]
)  # fmt: skip
def test_a_wrong_kernel_is_noticed(kernel: str) -> None:
    with pytest.raises(AssertionError):
        ring_checks.check_all(Wrong(kernel), (1024,))
