"""The client's end: ``connect`` gives a server's offer and sessions that survive lost connections."""

from __future__ import annotations

from helora_serve.client.remote import Remote, connect
from helora_serve.client.session import RemoteSession

__all__ = ["Remote", "RemoteSession", "connect"]
