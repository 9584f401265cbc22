"""The adapters of a host, on the base model: attached when the proxy starts, and again after the host was lost.

What a connection lost stays lost: the answer on its way fails. The next one connects anew, with new keys, and goes on
only if the host still offers exactly what it offered before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from helora_core.errors import ConnectionLost
from helora_transformers.attaching import attach
from helora_transformers.bank import adapter_names
from helora_transformers.private import PrivateModel


class Attachment:
    """A base model's adapters.

    Args:
        model: The base model.
        adapter: Path of an adapter on this machine, or what connects to the host of adapters.
        where: The host's address; None for this process.
        options: Further arguments of ``attach``.

    Attributes:
        where: The same.
        names: The adapters' names.
        offer_sha256: The digest of what the host offers, in hexadecimal.

    Raises:
        HeloraError: As ``attach`` and the connecting raise it.
    """

    def __init__(
        self, model: Any, adapter: str | Callable[[], Any], *, where: str | None, options: Mapping[str, Any]
    ) -> None:
        self.where = where
        self._model, self._adapter, self._options = model, adapter, dict(options)
        self.offer_sha256 = ""
        self._private: PrivateModel | None = self._attached()
        self.names = self._private.adapters

    @property
    def private(self) -> PrivateModel | None:
        """The model with its adapters; None while the host is lost."""
        return self._private

    def use(self, name: str) -> PrivateModel:
        """The model, with the Δ of that adapter. What it needs is prepared when it is first used.

        Raises:
            ConnectionLost: The host is not there, or offers something else than before.
            HeloraError: As ``attach`` and ``set_adapter`` raise it.
        """
        if self._private is None:
            self._private = self._attached()
        self._private.set_adapter(name)
        return self._private

    def lost(self) -> None:
        """The host is gone: what was attached is of no use any more, and the model is the base model."""
        private, self._private = self._private, None
        if private is not None:
            private.close()

    close = lost

    def _attached(self) -> PrivateModel:
        if isinstance(self._adapter, str):
            private = attach(self._model, self._adapter, **self._options)
            self._check(private.host.offer())
            return private
        host = self._adapter()
        try:
            offer = host.offer()
            self._check(offer)
            return attach(self._model, host, adapter_name=adapter_names(offer)[0], **self._options)
        except BaseException:
            host.close()
            raise

    def _check(self, offer: bytes) -> None:
        digest = hashlib.sha256(offer).hexdigest()
        if self.offer_sha256 and digest != self.offer_sha256:
            raise ConnectionLost(
                f"Proxy: {self.where} offers something else than when this proxy started.",
                hint="If that is meant, start the proxy again: names, plans and keys are made for one offer.",
            )
        self.offer_sha256 = digest
