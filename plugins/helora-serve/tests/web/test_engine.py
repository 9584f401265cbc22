"""The engine in WebAssembly gives the bytes that helora-rns gives, by each of its builds."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from helora_core.backend.capabilities import Encoding
from helora_core.backend.primes import distinct_ntt_primes
from helora_core.params.ckks import CKKSParams
from helora_rns import choice
from helora_rns.arrays import aligned_copy
from helora_rns.backend import RNSBackend

Run = Callable[..., dict[str, Any]]
Begin = Callable[..., None]

# Ring degree, bits of data primes and of special ones: short ones, the longest, and one prime alone.
RINGS = [
    (2048, (50,), ()),
    (8192, (42, 40, 40), (43,)),
    (8192, (50, 49, 49), (50,)),
    (4096, (48, 47), (49,)),
    (16384, (50, 49), (48,)),
    (1024, (45, 30), (46,)),
]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _params(ring: tuple[int, tuple[int, ...], tuple[int, ...]]) -> CKKSParams:
    n, data, special = ring
    primes = distinct_ntt_primes(data + special, n)
    return CKKSParams(
        ring_degree=n, data_bits=data, special_bits=special, scale_bits=20,
        data_primes=primes[: len(data)], special_primes=primes[len(data) :],
    )  # fmt: skip


def _job(params: CKKSParams, steps: list[int], build: str) -> dict[str, Any]:
    data, special = (list(map(str, each)) for each in (params.data_primes, params.special_primes))
    keys = {"n": params.ring_degree, "data": data, "special": special, "steps": steps, "public": True}
    return {"builds": [build], "keys": keys}


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: f"{ring[0]}-{len(ring[1])}")
def test_transforms_hold_at_the_edges_of_their_range(ring: Any, build: str, run_job: Run) -> None:
    params = _params(ring)
    n, primes = params.ring_degree, params.data_primes + params.special_primes
    kernels, basis = choice.kernels(n, primes), tuple(range(len(primes)))
    moduli, rng = np.array(primes, dtype=np.uint64)[:, None], np.random.default_rng(5)
    ends = np.stack([moduli - 1, moduli // 2, moduli // 2 + 1, moduli * 0, moduli * 0 + 1])
    drawn = rng.integers(0, 5, (len(primes), n))
    edges = [np.broadcast_to(moduli - 1, (len(primes), n)), np.take_along_axis(ends[:, :, 0].T, drawn, axis=1)]
    job = _job(params, [], build)
    for given in edges:
        rows = aligned_copy(given.astype(np.uint64))
        found = run_job("node_engine.mjs", {"builds": [build], "rows": job["keys"] | {"given": _text(rows.tobytes())}})
        kernels.forward(rows, basis)
        square = kernels.multiply(rows, rows, basis)
        kernels.inverse(square, basis)
        expected = [rows.tobytes(), square.tobytes(), kernels.to_doubles(square, basis).tobytes()]
        assert list(map(base64.b64decode, found["rows"])) == expected


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: f"{ring[0]}-{len(ring[1])}")
def test_equal_seeds_give_equal_bytes(ring: Any, build: str, run_job: Run, counted: Begin) -> None:
    params, backend = _params(ring), RNSBackend()
    n, steps = params.ring_degree, [1, 5, params.ring_degree // 4] if params.special_primes else []
    rng = np.random.default_rng(7)
    scale = 2.0 ** min(40, params.data_modulus_bits - 8)
    inputs = [
        (rng.standard_normal(n // 2), scale, Encoding.SLOTS),
        (rng.standard_normal(100), scale, Encoding.SLOTS),
        (rng.standard_normal(n), scale, Encoding.COEFFICIENTS),
        (rng.uniform(-1, 1, 33), 2.0 ** min(params.data_modulus_bits - 3, 96), Encoding.COEFFICIENTS),
    ]
    counted()
    decryptor, _ = backend.generate_keys(params, steps, public_key=True)
    expected_keys = decryptor.evaluation_keys()
    expected = [decryptor.serialize(decryptor.encrypt(x, scale=s, encoding=e)) for x, s, e in inputs]
    job = _job(params, steps, build)
    job["encrypt"] = [{"values": _text(x.tobytes()), "scale": s, "encoding": e.value} for x, s, e in inputs]
    job["decrypt"] = [
        {"payload": _text(sent), "encoding": e.value} for sent, (_, _, e) in zip(expected, inputs, strict=True)
    ]
    found = run_job("node_engine.mjs", job)
    assert found["build"] == build
    assert base64.b64decode(found["keys"]) == expected_keys
    assert [base64.b64decode(each) for each in found["encrypted"]] == expected
    for sent, opened, (_, _, encoding) in zip(expected, found["decrypted"], inputs, strict=True):
        own = decryptor.decrypt(decryptor.deserialize(sent), encoding=encoding)
        assert np.frombuffer(base64.b64decode(opened)).tobytes() == own.tobytes()
    assert found["wiped"]


def test_results_of_every_form_are_read_as_python_reads_them(build: str, run_job: Run, counted: Begin) -> None:
    params, backend = _params((4096, (48, 40), (49,))), RNSBackend()
    counted()
    decryptor, evaluator = backend.generate_keys(params, [], public_key=True)
    x = np.random.default_rng(3).standard_normal(2048)
    whole = evaluator.encrypt_public(x, scale=2.0**30)
    dropped = evaluator.switch_modulus(whole) if hasattr(evaluator, "switch_modulus") else evaluator.rescale(whole)
    short = evaluator.shortened(dropped, (11, 3))
    results = [(whole, [0, 0]), (dropped, [0, 0]), (short, [11, 3])]
    sent = [decryptor.serialize(each) for each, _ in results]
    job = _job(params, [], build)
    job["decrypt"] = [
        {"payload": _text(payload), "encoding": encoding, "lowBits": low}
        for payload, (_, low) in zip(sent, results, strict=True)
        for encoding in ("slots", "coefficients")
    ]
    found = iter(run_job("node_engine.mjs", job)["decrypted"])
    for payload in sent:
        for encoding in (Encoding.SLOTS, Encoding.COEFFICIENTS):
            own = decryptor.decrypt(decryptor.deserialize(payload), encoding=encoding)
            assert base64.b64decode(next(found)) == own.tobytes()


def test_damaged_results_are_refused(run_job: Run, counted: Begin) -> None:
    params, backend = _params((2048, (50,), ())), RNSBackend()
    counted()
    decryptor, _ = backend.generate_keys(params, [])
    sent = decryptor.serialize(decryptor.encrypt(np.ones(4), scale=2.0**20))
    rng = np.random.default_rng(1)
    damaged = [sent[:-1], sent + b"\0", b"", sent[:22], sent[:4] + b"\2" + sent[5:], b"X" + sent[1:]]
    damaged += [sent[:6] + bytes(16) + sent[22:], sent.replace(b"\3\10", b"\3\7", 1), sent[:-8] + b"\xff" * 8]
    for _ in range(200):
        at = int(rng.integers(0, 80))
        damaged.append(sent[:at] + bytes([sent[at] ^ 1 << int(rng.integers(0, 8))]) + sent[at + 1 :])
    job = _job(params, [], "scalar") | {"keys": _job(params, [], "scalar")["keys"] | {"public": False}}
    job["decrypt"] = [{"payload": _text(each), "encoding": "slots"} for each in damaged]
    found = run_job("node_engine.mjs", job)["decrypted"]
    codes = {"corrupt-payload", "version-mismatch", "foreign-ciphertext"}
    for bad, each in zip(damaged, found, strict=True):
        if isinstance(each, str):  # what Python takes too: another scale, seed or version of the producer
            decryptor.deserialize(bad)
        else:
            assert each["refused"] in codes


def test_the_stream_is_chacha20(build: str, run_job: Run) -> None:
    # RFC 8439, 2.4.2 has the block counter at 1, and A.1 zeros at 0: its first key stream, and OpenSSL's of any seed.
    first = bytes.fromhex("76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7")
    zero = {"seed": _text(bytes(32)), "nonce": _text(bytes(12)), "counts": [4]}
    found = run_job("node_engine.mjs", {"builds": [build], "stream": zero})["stream"]
    assert base64.b64decode(found[0]) == first
    seed, nonce, counts = bytes(range(32)), bytes.fromhex("000000000000004a00000000"), [1, 7, 353, 8, 4000, 3]
    stream = {"seed": _text(seed), "nonce": _text(nonce), "counts": counts}
    found = run_job("node_engine.mjs", {"builds": [build], "stream": stream})["stream"]
    cipher = Cipher(ChaCha20(seed, bytes(4) + nonce), mode=None).encryptor()
    expected = cipher.update(bytes(8 * sum(counts)))
    assert b"".join(map(base64.b64decode, found)) == expected
    assert expected[64:80] == bytes.fromhex("224f51f3401bd9e12fde276fb8631ded")  # 2.4.2, block 1


def test_a_build_that_does_not_work_here_is_passed_over(run_job: Run) -> None:
    # Without its flag this Node has no relaxed vectors: what remains is the next build.
    found = run_job("node_engine.mjs", {"builds": ["relaxed", "simd128", "scalar"]}, relaxed=False)
    assert found["build"] in ("relaxed", "simd128")
