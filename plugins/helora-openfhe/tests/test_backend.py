"""What is particular to OpenFHE; the laws that hold for all backends are the conformance kit's."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

import helora_openfhe
from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.capabilities import Encoding
from helora_core.backend.checked_backend import checked
from helora_core.backend.ledger import Ledger
from helora_core.backend.session import open_sessions
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.request import BackendTraits
from helora_core.errors import CapabilityMissing, CorruptPayload, InvalidParameters
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.packing.rank_bsgs import RankBSGS
from helora_core.packing.zero_moai import ZeroMOAI
from helora_core.params.choose import Requirement, choose_params
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST
from helora_core.params.security import require_secure
from helora_core.parties.adapter_run import ModuleJob, run_adapter

REASON = helora_openfhe.availability()
if REASON is not None:
    pytest.skip(REASON, allow_module_level=True)

from helora_openfhe.backend import OpenFHEAutoBackend, OpenFHEBackend  # noqa: E402 - needs the library

BACKENDS = [checked(OpenFHEBackend()), checked(OpenFHEAutoBackend())]


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("packing", [RankBSGS(), ZeroMOAI()], ids=lambda packing: packing.name)
def test_lora_of_a_large_model_is_precise(backend: OpenFHEBackend, packing: RankBSGS) -> None:
    shape = ModuleShape.parse("1536:1536:16")
    plan = compile_plan(shape, packing, private_weights=False)
    module, x = synthetic_module(shape, seed=1), synthetic_activations(shape, 2, seed=2)
    (outcome,) = run_adapter(backend, [ModuleJob(module, x, plan)], private_weights=False)
    assert precision_bits(outcome.delta, module.reference_delta(x)) >= 12


def test_the_real_primes_are_reported_with_their_real_lengths() -> None:
    resolved = checked(OpenFHEBackend()).resolve(FAST)
    assert resolved.data_bits != FAST.data_bits, "OpenFHE took primes of the lengths asked for: simplify the README"
    assert tuple(prime.bit_length() for prime in resolved.data_primes) == resolved.data_bits
    assert checked(OpenFHEBackend()).resolve(resolved) == resolved


def test_the_special_prime_reported_is_that_of_the_keys() -> None:
    """A rotation key is a pair of polynomials modulo QP: its serialised form names every prime."""
    from helora_openfhe.context import make_context
    from helora_openfhe.library import openfhe

    small = msgspec.structs.replace(FAST, ring_degree=1024)
    resolved = checked(OpenFHEBackend()).resolve(small)
    context = make_context(resolved, OpenFHEBackend.capabilities.rescale)
    secret = context.KeyGen().secretKey
    text = openfhe.Serialize(context.KeySwitchGen(secret, secret), openfhe.JSON)
    (special,) = resolved.special_primes
    assert str(special) in text
    assert all(str(prime) in text for prime in resolved.data_primes)


def test_a_plan_without_rotations_needs_no_special_prime() -> None:
    params = choose_params(Requirement(depth=1, slots=1536, rotates=False))
    resolved = checked(OpenFHEBackend()).resolve(params)
    assert resolved.special_primes == ()
    assert require_secure(resolved).secure


@pytest.mark.parametrize("data_bits", [(53, 53, 52), (52, 51, 51), (47, 46), (55, 55, 55, 54), (45, 45)])
def test_a_modulus_that_is_never_rescaled_is_made_of_as_many_bits(data_bits: tuple[int, ...]) -> None:
    params = CKKSParams(ring_degree=8192, data_bits=data_bits, special_bits=(60,), scale_bits=70)
    resolved = checked(OpenFHEBackend()).resolve(params)
    assert resolved.max_level == params.max_level
    assert math.log2(math.prod(resolved.data_primes)) == pytest.approx(sum(data_bits), abs=1e-6)
    assert checked(OpenFHEBackend()).resolve(resolved) == resolved


def test_one_prime_alone_is_below_its_power_of_two() -> None:
    params = CKKSParams(ring_degree=2048, data_bits=(53,), special_bits=(), scale_bits=40)
    assert checked(OpenFHEBackend()).resolve(params).data_bits == (53,)


@pytest.mark.parametrize("data_bits", [(60, 40, 45), (60, 60), (45, 60), (60, 13)])
def test_chains_that_openfhe_cannot_make_are_refused_with_its_limits(data_bits: tuple[int, ...]) -> None:
    params = CKKSParams(ring_degree=2048, data_bits=data_bits, special_bits=(60,), scale_bits=40)
    with pytest.raises(InvalidParameters, match="from 14 to 59 bits, no longer than the first"):
        checked(OpenFHEBackend()).resolve(params)


def test_the_automatic_backend_has_one_scale() -> None:
    backend = checked(OpenFHEAutoBackend())
    with pytest.raises(InvalidParameters, match="that of the scale"):
        backend.resolve(msgspec.structs.replace(FAST, data_bits=(60, 45, 45)))
    _, server = open_sessions(backend, FAST, ())
    with pytest.raises(CapabilityMissing, match="scale"):
        server.encoder.encode(np.ones(4), level=0, scale_bits=30)


@pytest.mark.parametrize("packing", ["rank_bsgs", "outer_product", "halevi_shoup_bsgs"])
def test_sanitised_results_are_as_precise_as_the_plan_says(packing: str) -> None:
    """On scales that no single one of OpenFHE's could hold, and a modulus that N = 8192 has no room for."""
    shape, backend = ModuleShape.parse("96:64:4"), checked(OpenFHEBackend())
    loaded, traits = get_manager().load_packing(packing), BackendTraits.of([backend.capabilities])
    plan = compile_plan(shape, loaded, ring_degree=16384, traits=traits)
    module, x = synthetic_module(shape, seed=1), synthetic_activations(shape, 2, seed=2)
    (outcome,) = run_adapter(backend, [ModuleJob(module, x, plan)])
    errors = np.abs(outcome.delta - module.reference_delta(x)).max(axis=1)
    assert (errors <= outcome.error_bound).all()
    assert precision_bits(outcome.delta, module.reference_delta(x)) >= 12


def test_exact_scales_leave_no_drift() -> None:
    """Primes are not the power of two that OpenFHE takes them for: its own scale is off by 2^-22 a rescale."""
    client, server = open_sessions(checked(OpenFHEBackend()), FAST, ())
    values = np.full(FAST.slots, 100.0)
    ciphertext = client.encrypt(values, scale_bits=40)
    for level in (2, 1):
        one = server.encoder.encode(np.ones(1), level=level, scale_bits=40, encoding=Encoding.SCALAR)
        ciphertext = server.evaluator.rescale(server.evaluator.multiply_plain(ciphertext, one))
    assert server.evaluator.scale(ciphertext) != 2.0**40
    assert np.max(np.abs(client.decrypt(ciphertext) - values)) < 2.0**-25


def test_a_server_in_another_process_needs_only_the_bytes(tmp_path: Path) -> None:
    """The table of keys is the process's: this one must work where the client never was."""
    client, _ = open_sessions(checked(OpenFHEBackend()), FAST, (3,), ledger=Ledger())
    (tmp_path / "keys").write_bytes(client.evaluation_keys())
    values = np.arange(FAST.slots, dtype=np.float64) / FAST.slots
    (tmp_path / "upload").write_bytes(client.send(client.encrypt(values, scale_bits=40)))
    (tmp_path / "params").write_bytes(msgspec.json.encode(client.params))
    program = """
import sys, msgspec, pathlib
from helora_core.backend.capabilities import Encoding
from helora_core.backend.ledger import Ledger
from helora_core.backend.session import ServerSession
from helora_core.params.ckks import CKKSParams
from helora_openfhe.backend import OpenFHEBackend
folder = pathlib.Path(sys.argv[1])
params = msgspec.json.decode((folder / "params").read_bytes(), type=CKKSParams)
server = ServerSession.from_keys(OpenFHEBackend(), params, (folder / "keys").read_bytes(), ledger=Ledger())
rotated = server.evaluator.rotate(server.receive((folder / "upload").read_bytes()), 3)
(folder / "download").write_bytes(server.send(rotated))
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=120)
    result = client.decrypt(client.receive((tmp_path / "download").read_bytes()))
    assert np.max(np.abs(result - np.roll(values, -3))) < 1e-6


def test_a_flipped_byte_does_not_reach_the_parser() -> None:
    client, server = open_sessions(checked(OpenFHEBackend()), FAST, ())
    payload = bytearray(server.evaluator.serialize(client.encrypt(np.ones(4), scale_bits=40)))
    payload[len(payload) // 2] ^= 1
    with pytest.raises(CorruptPayload):
        server.evaluator.deserialize(bytes(payload))


def test_one_thread_unless_told_otherwise() -> None:
    program = "import helora_openfhe.library, os; print(os.environ['OMP_NUM_THREADS'])"
    for setting, threads in (({}, "1"), ({"HELORA_OPENFHE_THREADS": "2"}, "2"), ({"OMP_NUM_THREADS": "3"}, "3")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PATH": "/usr/bin", **setting},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.strip() == threads
