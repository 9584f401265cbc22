"""Frames that nobody should send: altered, cut, joined, out of turn, of the wrong kind. ``python noise.py --frames N``.

Each goes to a server in this process over a socket of its own; after each the server still serves.
"""

from __future__ import annotations

import argparse
import random
from contextlib import suppress
from typing import Any

import numpy as np

from helora_core.errors import HeloraError
from helora_core.parties.client import Client
from helora_serve import frames
from helora_serve.client.wire import Wire, WireBroken


class Noise:
    """Makes frames of a server's own.

    Args:
        remote: A client's connection.
        seed: Of what is drawn.
    """

    def __init__(self, remote: Any, seed: int) -> None:
        self._random, self._remote = random.Random(seed), remote
        client = Client(remote.offer())
        self.session = remote.open(client.evaluation_keys())
        self._message = client.begin("q", np.ones((1, 24))).message()
        self._digest = self._message.hex()[:64]

    def frame(self) -> bytes:
        """One frame, well or ill formed."""
        draw = self._random
        number = draw.choice([0, 1, 2, 3, 1 << 20, (1 << 53) - 1])
        payload = draw.choice([b"", b"x", self._message, self._message[: draw.randrange(200)]])
        whole = frames.encode(
            draw.choice(
                [
                    frames.Open(version=self._remote.document.version, keys=self._digest),
                    frames.Open(version=self._digest, keys=self._digest),
                    frames.Resume(session=self.session._name, token=bytes(32), received=number),
                    frames.Resume(session="0" * 32, token=bytes(32), received=number),
                    frames.Ask(request=max(1, number), received=number),
                    frames.Ack(received=number),
                    frames.Answer(number=1, request=1),
                    frames.Close(),
                ]
            ),
            payload,
        )
        way = draw.randrange(6)
        if way == 0:
            return draw.randbytes(draw.randrange(100))
        if way == 1:
            return whole[: draw.randrange(len(whole))]
        if way == 2:
            altered = bytearray(whole)
            altered[draw.randrange(min(len(whole), 80))] ^= draw.randrange(1, 256)
            return bytes(altered)
        return whole + draw.randbytes(draw.randrange(20)) if way == 3 else whole

    def send(self, count: int) -> int:
        """Send some over a new socket, until it ends. Returns how many were sent."""
        sent = 0
        with suppress(WireBroken, HeloraError):
            wire: Wire = self._remote._connector.dial(10)
            try:
                if self._random.random() < 0.5:  # a session of its own, for frames that come later
                    wire.send(frames.encode(self.session._opening()))
                    wire.receive(10)
                for _ in range(count):
                    sent += 1
                    wire.send(self.frame())
                    wire.receive(0.0005)
            finally:
                wire.close()
        return max(1, sent)


def soak(remote: Any, count: int, seed: int) -> None:
    """Send so many frames, and see each time that others are served."""
    noise, sent = Noise(remote, seed), 0
    while sent < count:
        sent += noise.send(noise._random.randrange(1, 12))
    noise.session.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--address", required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    from helora_serve.client import connect

    with connect(given.address) as opened:
        soak(opened, given.frames, given.seed)
