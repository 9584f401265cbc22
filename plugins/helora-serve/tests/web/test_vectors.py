"""The recorded exchange is what both clients still do, so that other clients may be held to it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.loading import module_at

HERE = Path(__file__).parent


def test_both_clients_make_it_again(build: str, partner: Any) -> None:
    made = module_at(HERE / "make_vectors.py")
    recorded, again = json.loads(made.FILE.read_text()), made.vectors()
    of_the_server = ("answer", "delta")  # which states its time, and has other random bytes
    assert {name: each for name, each in recorded.items() if name not in of_the_server} == {
        name: each for name, each in again.items() if name not in of_the_server
    }
    assert np.max(np.abs(np.subtract(recorded["delta"], recorded["expected"]))) <= recorded["error_bound"]
    node = partner("node_client.mjs", op="load", builds=[build], counts=True)
    up = {"layers.0.q_proj": base64.b64encode(np.array(recorded["up"]).tobytes()).decode()}
    assert node.ask(op="make", offer=recorded["offer"].encode(), up=up)["keys"] == recorded["keys"]
    x = np.array(recorded["x"])
    began = node.ask(op="begin", names=["layers.0.q_proj"], x=x.tobytes(), tokens=1, at=4)
    assert began["message"] == recorded["message"]
    found = node.ask(op="receive", answer=base64.b64decode(recorded["answer"]))
    delta = np.frombuffer(base64.b64decode(found["deltas"]["layers.0.q_proj"]))
    assert np.max(np.abs(delta - recorded["delta"])) < 2.0**-40
