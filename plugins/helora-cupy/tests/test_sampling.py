"""Random words on a device: ChaCha20's known answers, and what is drawn from a seed is what the CPU draws."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from helora_core.backend.primes import distinct_ntt_primes
from helora_cupy.device import Shim
from helora_cupy.kernels import DeviceKernels
from helora_cupy.sampling import Sampling
from helora_cupy.tables import is_prime
from helora_rns.correlations import streams
from helora_rns.correlations.ring import WordRing
from helora_rns.correlations.streams import Purpose, RowStreams
from helora_rns.scheme import sampling
from helora_rns.scheme.context import Context, Parameters

N = 1024
SHIM = Shim()
SAMPLING = Sampling(SHIM)
SEED, NONCE = bytes(range(32)), bytes([0, 0, 0, 9, 0, 0, 0, 0x4A, 0, 0, 0, 0])


def test_words_are_those_of_rfc_8439() -> None:
    """§2.3.2: the block with counter 1."""
    block = bytes.fromhex(
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4ed2826446079faa0914c2d705d98b02a2b5129cd1de164eb9"
        "cbd083e8a2503c4e"
    )
    nonce = bytes.fromhex("000000090000004a00000000")
    assert SAMPLING.words(SEED, nonce, 8, 8).tobytes() == block


@pytest.mark.parametrize(("start", "count"), [(0, 1), (0, 4096), (7, 9), (8, 8), (2047, 3), (5, 5000)])
def test_any_words_of_a_stream_are_those_of_the_whole(start: int, count: int) -> None:
    cipher = Cipher(ChaCha20(SEED, bytes(4) + NONCE), mode=None).encryptor()
    whole = np.frombuffer(cipher.update(bytes(8 * (start + count))), np.uint64)
    assert (SAMPLING.words(SEED, NONCE, start, count) == whole[start:]).all()
    stream = DeviceKernels(SHIM, N, distinct_ntt_primes((30,), N)).stream(SEED, NONCE)
    parts = [stream.words(start), stream.words(count)] if start else [stream.words(count)]
    assert (np.concatenate(parts) == whole).all()


@pytest.mark.parametrize("bits", [(50, 50, 60), (34, 42, 30), (20, 60, 49, 48)])
def test_a_seed_expands_to_the_polynomials_of_the_cpu(bits: tuple[int, ...]) -> None:
    """Of primes of which few words are left out, and of one (the largest of 20 bits, above 2^19) of which many are."""
    ring = Context(Parameters(N, distinct_ntt_primes(bits, N)))
    seeds = [bytes([i] * 32) for i in range(5)]
    out = np.zeros((len(seeds), len(bits), N), np.uint64)
    SAMPLING.uniform_polynomials([(seed, bytes(12)) for seed in seeds], ring.primes, N, out)
    for seed, found in zip(seeds, out, strict=True):
        assert (found == sampling.uniform(ring, seed, ring.whole)[0]).all()


def test_secrets_are_those_of_the_cpu() -> None:
    ring = Context(Parameters(N, distinct_ntt_primes((30,), N)))
    seeds = [bytes([i] * 32) for i in range(40)]
    found = SAMPLING.ternary_polynomials([(seed, bytes(12)) for seed in seeds], N, 1, len(seeds))
    for seed, own in zip(seeds, found, strict=True):
        assert (own == sampling.ternary(ring, seed)).all()


def smallest_prime(bits: int) -> int:
    """Of which half of the words are left out."""
    return next(q for q in range((1 << (bits - 1)) + 1, 1 << bits, 2 * N) if is_prime(q))


CHAINS = [distinct_ntt_primes((42, 42), N), distinct_ntt_primes((37,), N), (smallest_prime(41),)]
CHAINS += [(smallest_prime(41), smallest_prime(43))]


@pytest.mark.parametrize("primes", CHAINS)
def test_rows_of_a_stream_follow_each_other_as_on_the_cpu(primes: tuple[int, ...]) -> None:
    """Of a batch: words and residues, 32 polynomials a stream, what is drawn beyond them left out."""
    ring, count = WordRing(N, primes), 70
    words, values = np.zeros((count, N), np.uint64), np.zeros((count, len(primes), N), np.uint64)
    rows = RowStreams(SEED, Purpose.UNIFORM)
    for i in range(count):
        streams.uniform(ring, rows.next(), words[i], values[i])
    keys = [(SEED, bytes([Purpose.UNIFORM]) + i.to_bytes(7, "big") + bytes(4)) for i in range(3)]
    bounds = [(2**64 - 1, 2**64 - 1), *(((1 << q.bit_length()) - 1, q - 1) for q in primes)]
    found = np.zeros_like(words), np.zeros_like(values)
    SAMPLING.streams(
        keys, np.array(bounds, np.uint64), (found[0], 1), N, each=streams.ROWS, count=count, second=found[1],
        budget=(1 + len(primes)) * N + N // 64,
    )  # fmt: skip
    assert (found[0] == words).all()
    assert (found[1] == values).all()
    rows = RowStreams(SEED, Purpose.RESULTS)
    u = [sampling.ternary_of(ring.context, rows.next()) for _ in range(count)]
    keys = [(SEED, bytes([Purpose.RESULTS]) + i.to_bytes(7, "big") + bytes(4)) for i in range(3)]
    assert (SAMPLING.ternary_polynomials(keys, N, streams.ROWS, count) == np.stack(u)).all()
