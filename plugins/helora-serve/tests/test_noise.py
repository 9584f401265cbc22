"""A thousand frames that nobody should send: the server refuses them, holds no more for them, and serves on."""

from __future__ import annotations

import gc
import tracemalloc
from types import ModuleType
from typing import Any


def test_a_thousand_malformed_frames(serving: Any, world: Any, noise: ModuleType) -> None:
    served = serving(sessions=64, client_sessions=64, ttl_s=2)
    client, session = served.session()
    remote = served.connect()
    noise.soak(remote, 200, seed=1)
    gc.collect()
    tracemalloc.start()
    try:
        for seed in range(8):
            noise.soak(remote, 100, seed=2 + seed)
            assert world.right(client.run("q", world.x(1, seed), session), world.x(1, seed))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 64 << 20
    assert served.metric("helora_http_refusals_total", code="corrupt-payload") > 10
    assert served.metric("helora_http_refusals_total", code="helora-error") == 0
    assert served.metric("helora_requests_total", code="helora-error") == 0
