"""Values stay on the device: the scheme's arrays refuse to be mixed with the host's, or to be read as them."""

from __future__ import annotations

import numpy as np
import pytest
from guarded import Guarded, Resident

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Sanitizing
from helora_core.params.ckks import CKKSParams
from helora_cupy.running import KernelsOf, RunningShim
from helora_rns import choice
from helora_rns.backend import RNSBackend
from helora_rns.scheme.context import Context, Parameters, context

SCALE = 2.0**30


def on_the_host(degree: int, primes: tuple[int, ...]) -> Guarded:
    return Guarded(choice.kernels(degree, primes))


_DEVICE = KernelsOf(RunningShim())


def on_the_device(degree: int, primes: tuple[int, ...]) -> Guarded:
    return Guarded(_DEVICE(degree, primes))


class GuardedBackend(RNSBackend):
    """The scheme on guarded kernels."""

    kernels = staticmethod(on_the_device)

    def context(self, params: CKKSParams) -> Context:
        return context(Parameters(params.ring_degree, params.data_primes, params.special_primes), self.kernels)


class GuardedHostBackend(GuardedBackend):
    kernels = staticmethod(on_the_host)


PARAMS = RNSBackend().resolve(CKKSParams(ring_degree=1024, data_bits=(42, 40, 40), special_bits=(46,), scale_bits=30))


@pytest.mark.parametrize("backend", [GuardedBackend(), GuardedHostBackend()])
class TestScheme:
    def test_a_request_computes_on_the_device_from_bytes_to_bytes(self, backend: RNSBackend) -> None:
        client, server = backend.generate_keys(PARAMS, [1, 2, 3], public_key=True)
        values = np.random.default_rng(0).uniform(-1, 1, PARAMS.slots)
        received = server.deserialize(client.serialize(client.encrypt(values, scale=SCALE)))
        assert isinstance(received.values, Resident)
        plain = backend.encoder(PARAMS).encode(values, level=2, scale=SCALE)
        turned, other = server.rotate_many(received, [1, 2])
        total = server.dot_plain([turned, server.negate(other)], [plain, plain])
        low = server.rescale(server.rescale(server.sub(total, server.multiply_plain(turned, plain))))
        assert server.prepare_zeros(2, 2) == 2
        wide = server.deserialize(client.serialize(client.encrypt(values, scale=2.0**70)))
        for how in (
            Sanitizing(Encoding.SLOTS, 40, 45, tuple(range(64))),
            Sanitizing(Encoding.COEFFICIENTS, 40, 0, tuple(range(64)), 1),
        ):
            for clean in server.sanitize_many([wide, wide, wide], [how] * 3):
                opened = client.decrypt(client.deserialize(server.serialize(clean)))
                if how.encoding is Encoding.SLOTS:
                    np.testing.assert_allclose(opened[:64], values[:64], atol=1e-6)
        masked, mask = server.uniform_mask(received)
        assert type(mask) is np.ndarray
        back = backend.encoder(PARAMS).encode(mask, level=2, scale=SCALE, encoding=Encoding.INTEGERS)
        unmasked = server.sub(masked, server.add_plain(server.sub(masked, masked), back))
        np.testing.assert_allclose(client.decrypt(unmasked), values, atol=1e-4)
        short = server.shortened(low, (3, 4))
        assert type(client.decrypt(client.deserialize(server.serialize(short)))) is np.ndarray

    @pytest.mark.parametrize("encoding", list(Encoding))
    def test_every_encoding_comes_from_the_host_and_goes_back(self, backend: RNSBackend, encoding: Encoding) -> None:
        client, _ = backend.generate_keys(PARAMS, [], public_key=True)
        rng = np.random.default_rng(1)
        values = {
            Encoding.INTEGERS: np.stack([rng.integers(0, q, 1024, dtype=np.uint64) for q in PARAMS.data_primes]),
            Encoding.SCALAR: rng.uniform(-1, 1, 1),
            Encoding.COMPLEX_SLOTS: rng.uniform(-1, 1, 512) * 1j,
        }.get(encoding, rng.uniform(-1, 1, 512))
        opened = client.decrypt(client.encrypt(values, scale=SCALE, encoding=encoding), encoding=encoding)
        assert type(opened) is np.ndarray
        if encoding is not Encoding.INTEGERS:
            np.testing.assert_allclose(opened[: values.size], values, atol=1e-5)
        assert isinstance(backend.encoder(PARAMS).encode(values, level=1 if encoding is not Encoding.INTEGERS else 2,
                                                         scale=SCALE, encoding=encoding).values, Resident)  # fmt: skip

    def test_secrets_are_cleared_when_their_role_is_gone(self, backend: RNSBackend) -> None:
        client, _ = backend.generate_keys(PARAMS, [1])
        own = [client._secret.values, client._encryptor.minus]
        assert all(int(each.max()) > 1 for each in own)
        del client
        assert all(int(each.max()) == 0 for each in own)


def test_a_guarded_array_is_refused_by_the_hosts_functions() -> None:
    array = Resident(np.zeros(4))
    for mixed in (lambda: np.asarray(array), lambda: array + np.zeros(4), lambda: np.add(np.zeros(4), array)):
        with pytest.raises(TypeError, match="was taken for one of the"):
            mixed()
