"""Doubles whose server holds, or was sent, what only the client may have; and one that counts for itself."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from doubles.honest import HonestBackend, HonestDecryptor, HonestEvaluator
from doubles.registry import caught_by
from helora_core.params.ckks import CKKSParams
from helora_numpy.backend import EmulatedCiphertext as Ciphertext

Roles = tuple[HonestDecryptor, HonestEvaluator]


class _Leaky(HonestBackend):
    """A backend whose key generation does something to the two roles."""

    def generate_keys(
        self,
        params: CKKSParams,
        rotation_steps: Collection[int],
        *,
        public_key: bool = False,
        seed: int | None = None,
    ) -> Roles:
        roles = super().generate_keys(params, rotation_steps, public_key=public_key, seed=seed)
        self.leak(*roles)
        return roles

    def leak(self, decryptor: HonestDecryptor, evaluator: HonestEvaluator) -> None:
        """Do it."""


@caught_by("test_nothing_that_the_server_holds_is_named_after_a_secret")
class LeavesTheSecretKeyOnTheServer(_Leaky):
    """The evaluator has the secret key as an attribute.

    One context object for both roles, as TenSEAL's before ``make_context_public``.
    """

    def leak(self, decryptor: HonestDecryptor, evaluator: HonestEvaluator) -> None:
        evaluator._secret_key = decryptor._secret_key


@caught_by("test_the_server_does_not_reach_the_client")
class LeavesTheSecretKeyUnderAnotherName(_Leaky):
    """The evaluator has the secret key, in a list that is called a table.

    Key material kept "for later", where nobody would look for it.
    """

    def leak(self, decryptor: HonestDecryptor, evaluator: HonestEvaluator) -> None:
        evaluator.tables = [decryptor._secret_key]


@caught_by("test_nothing_that_the_server_holds_can_decrypt")
class KeepsTheClientInAClosure(_Leaky):
    """The evaluator reads levels through a function that closes over the client.

    A callback that was convenient, and takes everything along that its scope holds.
    """

    def leak(self, decryptor: HonestDecryptor, evaluator: HonestEvaluator) -> None:
        def level(ciphertext: Ciphertext) -> int:
            return decryptor.level(ciphertext)

        evaluator.level = level


@caught_by("test_nothing_that_the_server_holds_can_decrypt")
class KeepsTheClientInAPartial(_Leaky):
    """The evaluator serialises through a method bound to the client.

    One codec for both roles, and it is the client's.
    """

    def leak(self, decryptor: HonestDecryptor, evaluator: HonestEvaluator) -> None:
        evaluator.serialize = partial(decryptor.serialize)


_CLIENTS: dict[bytes, HonestDecryptor] = {}


@caught_by("test_nothing_that_the_server_holds_can_decrypt")
class KeepsItsClientsInAModule(_Leaky):
    """The evaluator finds the client in a table of its module, by the key's id.

    Static maps from contexts to keys, as OpenFHE's: no attribute leads to the secret, and one line of code does.
    """

    class evaluator_type(HonestEvaluator):  # noqa: N801
        def level(self, ciphertext: Ciphertext) -> int:
            client = _CLIENTS.get(self.key_id)
            return client.level(ciphertext) if client else super().level(ciphertext)

    def leak(self, decryptor: HonestDecryptor, evaluator: HonestEvaluator) -> None:
        _CLIENTS[decryptor.key_id] = decryptor


@caught_by("test_client_and_server_share_no_source_of_randomness")
class SharesItsRandomness(_Leaky):
    """Client and server draw from one generator.

    A global generator, seeded once; whoever has its state has every error of every encryption.
    """

    def leak(self, decryptor: HonestDecryptor, evaluator: HonestEvaluator) -> None:
        evaluator._rng = decryptor._rng


@caught_by("test_what_is_sent_does_not_contain_the_secret_key")
class SendsTheSecretKeyWithTheOthers(HonestBackend):
    """The evaluation keys are followed by the secret key.

    A context saved whole: ``save_secret_key=True`` is one flag among four.
    """

    class decryptor_type(HonestDecryptor):  # noqa: N801
        def evaluation_keys(self) -> bytes:
            return super().evaluation_keys() + self._secret_key

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> HonestEvaluator:
        return super().load_evaluator(params, evaluation_keys[:-32])


@caught_by("test_the_keys_that_are_sent_do_not_decrypt")
class MakesAClientOfTheKeysSent(HonestBackend):
    """What a server makes of the keys it was sent can decrypt.

    A class for both roles, with a ``decrypt`` that works wherever the key happens to be.
    """

    def load_evaluator(self, params: CKKSParams, evaluation_keys: bytes) -> HonestEvaluator:
        evaluator = super().load_evaluator(params, evaluation_keys)
        evaluator.decrypt = lambda ciphertext: ciphertext.values.real
        return evaluator


@caught_by("test_a_server_made_of_the_bytes_it_was_sent_computes_the_same")
class SendsHalfItsKeys(HonestBackend):
    """The bytes of the evaluation keys lack every second one; the evaluator in the client's process has them all.

    Tests that never send the keys do not see what the sending loses.
    """

    class decryptor_type(HonestDecryptor):  # noqa: N801
        def evaluation_keys(self) -> bytes:
            self._keys.steps[:] = self._keys.steps[1::2]
            return super().evaluation_keys()


@caught_by("test_a_backend_counts_nothing_itself")
class CountsForItself(HonestEvaluator):
    """The evaluator counts its rotations.

    Counters that a backend increments say what it believes, or what it would like to be believed.
    """

    rotation_count = 0

    def rotate(self, ciphertext: Ciphertext, steps: int) -> Ciphertext:
        self.rotation_count += 1
        return super().rotate(ciphertext, steps)


@caught_by("test_no_representation_shows_the_secret_key")
class ShowsItsSecretKey(HonestDecryptor):
    """The client's ``repr`` has the secret key in it.

    A dataclass; the next traceback with local variables takes it to a log.
    """

    def __repr__(self) -> str:
        return f"Client(params={self.params!r}, secret_key={self._secret_key!r})"
