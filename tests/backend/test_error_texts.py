"""Refusals speak of shapes, scales and counts, never of values: logs travel further than activations may."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from helora_core.backend.capabilities import Encoding
from helora_core.errors import HeloraError

MARK = 7.31415926
"""Stands in every value; whatever a message rounds it to begins with its digits."""


def refusals() -> dict[str, Callable[[Any, Any], object]]:
    """What is refused for its values, or although it has some."""
    far, wide = np.full(8, MARK * 1e30), np.full(5000, MARK)
    return {
        "too large to encrypt": lambda client, server: client.encrypt(far, scale_bits=30),
        "too large to encode": lambda client, server: server.encoder.encode(far, level=0, scale_bits=30),
        "too large a scalar": lambda client, server: server.encoder.encode(
            far[:1], level=0, scale_bits=30, encoding=Encoding.SCALAR
        ),
        "too many": lambda client, server: client.encrypt(wide, scale_bits=30),
        "not finite": lambda client, server: client.encrypt(np.append(wide[:4], np.nan), scale_bits=30),
        "another dtype": lambda client, server: client.encrypt(wide[:4].astype(np.float32), scale_bits=30),
        "a list": lambda client, server: client.encrypt([MARK, MARK], scale_bits=30),
        "no ciphertext": lambda client, server: client.receive(wide.tobytes()),
        "no ciphertext object": lambda client, server: client.decrypt(wide),
    }


@pytest.mark.parametrize("case", refusals())
def test_no_refusal_shows_a_value(sessions: Any, case: str) -> None:
    with pytest.raises(HeloraError) as caught:
        refusals()[case](sessions.client, sessions.server)
    said = f"{caught.value} {caught.value.__cause__}"
    assert not re.search(r"7\.?31", said), said
