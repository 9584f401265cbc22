"""``python -m helora_harness.lm.host_process ADAPTER PACKING BACKEND TOKENS``: serves an adapter, not an artifact.

Packings whose server needs the adapter's matrices between two rounds have no artifact that ``helora link`` could serve.
TOKENS are the numbers that plans are made for, comma-separated; none for those of ``attach``. Like ``helora link``, it
prints one JSON document with its address, and serves until its input ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from helora_core.adapter.load import load_adapter
from helora_transformers.buckets import compiled_in_buckets
from helora_transformers.link.host import Host


def main(adapter: str, packing: str, backend: str, tokens: str) -> None:
    """Serve until standard input ends."""
    buckets = [int(each) for each in tokens.split(",")] if tokens else None
    lora = compiled_in_buckets(load_adapter(Path(adapter)), buckets=buckets, packing=packing, backend=backend)
    with Host(lora.server(), "tcp://127.0.0.1:0") as host:
        click.echo(msgspec.json.encode({"event": "serving", "address": host.address}).decode())
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
