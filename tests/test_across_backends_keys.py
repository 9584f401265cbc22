"""A client that is restored from its export, on every backend that can be used here.

All libraries have a build for Python 3.10 only: ``nox -s conformance`` runs this there with every one of them.
"""

from __future__ import annotations

import numpy as np
import pytest

from helora_core import restore_client
from helora_core.backend.ledger import Ledger
from helora_core.backend.limits import MessageLimits
from helora_core.backend.protocol import SupportsKeyRestore
from helora_core.backend.session import ServerSession, open_sessions
from helora_core.errors import MissingRotationKey
from helora_core.host.manager import get_manager
from helora_core.params.presets import FAST

pytest.importorskip("cryptography")

STEPS = (1, 5, 4095)
VALUES = np.linspace(-4, 4, FAST.slots)
CLOSE = 1e-4


def _usable() -> list[str]:
    return [name for name, registered in get_manager().backends().items() if registered.availability is None]


@pytest.mark.thorough  # and in the session ``conformance``
@pytest.mark.parametrize("backend_name", _usable())
def test_a_restored_client_goes_on_where_it_was(backend_name: str) -> None:
    backend = get_manager().load_backend(backend_name)
    if not isinstance(backend, SupportsKeyRestore):
        pytest.skip(f"{backend_name} cannot restore keys")
    client, server = open_sessions(backend, FAST, STEPS, public_key=True)
    again = restore_client(backend, client.export_keys("a passphrase"), "a passphrase")
    anew = ServerSession.from_keys(backend, FAST, again.evaluation_keys(), ledger=Ledger())
    for sender in (client, again):
        for reader in (client, again):
            for host in (server, anew):
                received = host.receive(sender.send(sender.encrypt(VALUES, scale_bits=FAST.scale_bits)))
                for step in STEPS:
                    result = host.send(host.evaluator.rotate(received, step))
                    found = reader.decrypt(reader.receive(result))
                    np.testing.assert_allclose(found, np.roll(VALUES, -step), rtol=0, atol=CLOSE)
    with pytest.raises(MissingRotationKey):
        anew.evaluator.rotate(received, 6)
    message = anew.send(anew.encrypt_public(VALUES, scale_bits=FAST.scale_bits))
    np.testing.assert_allclose(client.decrypt(client.receive(message)), VALUES, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("backend_name", _usable())
def test_what_a_library_sends_stays_within_the_limits_with_room_to_spare(backend_name: str) -> None:
    client, _ = open_sessions(get_manager().load_backend(backend_name), FAST, STEPS, public_key=True)
    limits = MessageLimits.of(client.params, rotations=len(STEPS))
    assert 1.2 * len(client.evaluation_keys()) < limits.key_bytes
    message = client.send(client.encrypt(VALUES, scale_bits=FAST.scale_bits))
    assert 1.2 * len(message) < limits.ciphertext_bytes
