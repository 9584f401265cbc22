"""``python fuzz.py --inputs 1000000``: altered and random bytes through every reader: read, or refused by name.

Good payloads of each kind are altered, where their structure is and anywhere, cut, lengthened and spliced together;
some are of random bytes. Any exception but the refusals ends the run, with what reproduces it. A crash of the process
does, too: ``faulthandler`` says where. The small ring makes it some ten thousand inputs a second.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import functools
import random
import sys
import time
import traceback
from collections.abc import Callable

import numpy as np

from helora_core.backend.correlations import Switching
from helora_core.backend.primes import distinct_ntt_primes
from helora_core.errors import CorruptPayload, ForeignCiphertext, VersionMismatch
from helora_rns.correlations.keys import RNSBatchKey
from helora_rns.correlations.ring import WordRing
from helora_rns.correlations.sums import RNSBatchSums
from helora_rns.scheme import encoding, wire
from helora_rns.scheme.ciphertexts import Ciphertext
from helora_rns.scheme.context import Context, Parameters, context
from helora_rns.scheme.encryption import Encryptor
from helora_rns.scheme.fields import Kind, corrupt
from helora_rns.scheme.keys import PublicKey, RotationKey, SecretKey
from helora_rns.scheme.shortening import shortened

N, KEY_ID = 64, bytes(range(16))
REFUSALS = (CorruptPayload, ForeignCiphertext, VersionMismatch)
EVERY = 1 << 14
"""Inputs after which a count is printed."""

Reader = Callable[[Context, bytes], object]
NONCES, HOW = bytes(64), (Switching(27, 32), Switching(64, 64, exact=True))


@functools.cache
def batch() -> tuple[RNSBatchKey, RNSBatchSums]:
    """Both sides of a batch, of a small ring of its own."""
    own = WordRing(N, distinct_ntt_primes((42, 42), N))
    key = RNSBatchKey(own, NONCES)
    return key, RNSBatchSums(own, key.public_key, NONCES, 1)


def read_key(_: Context, payload: bytes) -> object:
    """A public key, by the server."""
    return RNSBatchSums(batch()[1]._ring, payload, NONCES, 1)


def read_upload(_: Context, payload: bytes) -> object:
    """Two ciphertexts, by the server."""
    return batch()[1].add(payload, np.ones((1, 2), np.int64))


def read_results(_: Context, payload: bytes) -> object:
    """Two results of either form, by the client."""
    for how in HOW:
        try:
            return batch()[0].decrypt(payload, 2, how)
        except CorruptPayload:
            continue
    raise corrupt("these are no results of either form")


READERS: dict[Kind, Reader] = {
    Kind.CIPHERTEXT: wire.read_ciphertext,
    Kind.EVALUATION_KEYS: wire.read_keys,
    Kind.SECRET_KEY: wire.read_secret,
    Kind.BATCH_KEY: read_key,
    Kind.BATCH_UPLOAD: read_upload,
    Kind.BATCH_RESULTS: read_results,
}


def ring() -> Context:
    """A small one, so that much of each payload is structure: two data primes and a special one."""
    found = distinct_ntt_primes((49, 40, 50), N)
    return context(Parameters(N, found[:2], found[2:]))


def examples(own: Context) -> list[tuple[Kind, bytes]]:
    """Good payloads of each kind: ciphertexts fresh, used and short; keys with a public one, without it, and none."""
    secret = SecretKey(own)
    public = PublicKey.of(own, secret)
    rotations = [RotationKey.of(own, secret, step) for step in (1, 3)]
    fresh = Encryptor(own, secret).encrypt(encoding.coefficients_of_slots(own, np.ones(3), 2.0**30), 2.0**30)
    seeded = wire.write_ciphertext(own, fresh)
    result = Ciphertext(own.kernels.mod_down(fresh.values, own.basis(1), 1), 0, 2.0**30)
    keys = [wire.EvaluationKeys(KEY_ID, each, key) for each in (rotations, []) for key in (public, None)]
    kept = [wire.KeptKeys(KEY_ID, secret.seed, [1, 3], key) for key in (public, None)]
    client, server = batch()
    masks = np.zeros((2, N), np.uint64)
    return [
        (Kind.BATCH_KEY, client.public_key),
        (Kind.BATCH_UPLOAD, client.encrypt(masks)),
        *((Kind.BATCH_RESULTS, server.results(np.ones((2, 1), np.int64), masks, bytes(32), how)) for how in HOW),
        (Kind.CIPHERTEXT, seeded),
        (Kind.CIPHERTEXT, wire.write_ciphertext(own, wire.read_ciphertext(own, seeded))),
        *((Kind.CIPHERTEXT, wire.write_ciphertext(own, shortened(own, result, bits))) for bits in ((20, 12), (48, 0))),
        *((Kind.EVALUATION_KEYS, wire.write_keys(own, each)) for each in keys),
        *((Kind.SECRET_KEY, wire.write_secret(own, each)) for each in kept),
    ]


def altered(rng: random.Random, payload: bytes, others: list[bytes]) -> bytes:
    """One input: most are nearly right, so that they get far."""
    choice = rng.random()
    if choice < 0.02:
        return rng.randbytes(rng.randrange(200))
    changed = bytearray(payload)
    if choice < 0.10:
        return bytes(changed[: rng.randrange(len(changed) + 1)])
    if choice < 0.15:
        return bytes(changed) + rng.randbytes(rng.randrange(1, 40))
    if choice < 0.25:
        other = rng.choice(others)
        return bytes(changed[: rng.randrange(len(changed) + 1)]) + other[rng.randrange(len(other) + 1) :]
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(min(160, len(changed)) if rng.random() < 0.7 else len(changed))
        how = rng.random()
        if how < 0.4:
            changed[at] ^= 1 << rng.randrange(8)
        elif how < 0.6:
            changed[at : at + 4] = rng.choice([b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\1\0\0\0"])
        elif how < 0.8:
            changed[at : at + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
        else:
            changed[at] = rng.randrange(256)
    return bytes(changed)


def fuzzed(inputs: int, seed: int) -> dict[str, int]:
    """How many inputs were read, and how many refused with which error.

    Raises:
        AssertionError: A reader raised something else.
    """
    rng, own = random.Random(seed), ring()
    known = examples(own)
    payloads, outcomes = [payload for _, payload in known], collections.Counter[str]()
    for number in range(inputs):
        kind, payload = known[number % len(known)]
        tried = altered(rng, payload, payloads)
        reader = READERS[kind] if rng.random() < 0.95 else rng.choice(list(READERS.values()))
        try:
            reader(own, tried)
        except REFUSALS as refusal:
            outcomes[refusal.code] += 1
        except BaseException as error:
            traceback.print_exc()
            raise AssertionError(f"{reader.__name__}, input {number} of seed {seed}: {tried.hex()}") from error
        else:
            outcomes["read"] += 1
        if number % EVERY == EVERY - 1:
            print(f"\r{number + 1} inputs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return dict(outcomes)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None, help="a new one each time if not given")
    asked = parser.parse_args()
    faulthandler.enable()
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    start = time.monotonic()
    outcomes = fuzzed(asked.inputs, seed)
    seconds = time.monotonic() - start
    told = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
    print(f"{asked.inputs} inputs of seed {seed} in {seconds:.0f} s, {asked.inputs / seconds:.0f} a second: {told}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
