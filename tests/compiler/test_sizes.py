"""Bytes that a plan states hold for what a library really sends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.session import open_sessions
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.sizes import ciphertext_bytes
from helora_core.execution.constants import encode_constants
from helora_core.host.manager import get_manager
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST
from helora_core.parties.module_run import run_module

HEADER_BYTES = 4096
"""More than any message has besides its residues."""

LEAST = 0.45
"""Of the 8 bytes of a residue, compression leaves at least this much: primes have 36 bits or more."""

LEAST_OF_KEYS = 0.35
"""Seeds stand for half of each key besides."""


def test_a_ciphertext_is_two_polynomials_of_eight_bytes_a_residue() -> None:
    assert ciphertext_bytes(FAST, 0) == 2 * 8 * 8192
    assert ciphertext_bytes(FAST, 2) == 3 * ciphertext_bytes(FAST, 0)


@pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai", "cheetah", "outer_product", "cheetah_two_round"])
@pytest.mark.parametrize("sanitize_bits", [None, 40])
def test_messages_are_what_the_program_sends(packing: str, sanitize_bits: int | None) -> None:
    strategy = get_manager().load_packing(packing)
    plan = compile_plan(
        ModuleShape.parse("96:64:4"), strategy, tokens=4, sanitize_bits=sanitize_bits, private_weights=False
    )
    uploads = plan.counts.encrypts
    assert plan.bytes_up * 2 == uploads * ciphertext_bytes(plan.params, plan.params.max_level)
    lowest, highest = (ciphertext_bytes(plan.params, level) for level in (0, plan.params.max_level))
    assert plan.counts.decrypts * lowest <= plan.bytes_down <= plan.counts.decrypts * highest
    assert plan.key_bytes % (8 * plan.params.ring_degree) == 0
    assert (plan.key_bytes == 0) == (not plan.rotation_steps)


@given(tokens=st.integers(1, 50))
def test_bytes_of_several_runs_add_up_and_keys_do_not(tokens: int) -> None:
    plan = compile_plan(
        ModuleShape.parse("96:64:4"), get_manager().load_packing("rank_bsgs"), tokens=4, private_weights=False
    )
    row = plan.to_dict(tokens=tokens)
    assert row["bytes_up_estimate"] == plan.runs(tokens) * plan.bytes_up
    assert row["bytes_down_estimate"] == plan.runs(tokens) * plan.bytes_down
    assert row["key_bytes_estimate"] == plan.key_bytes


@pytest.mark.parametrize("packing", ["rank_bsgs", "zero_moai", "cheetah"])
def test_the_estimate_bounds_what_seal_sends_and_is_at_most_twice_as_much(packing: str) -> None:
    backend = get_manager().load_backend("tenseal")
    plan = compile_plan(
        ModuleShape.parse("96:64:4"),
        get_manager().load_packing(packing),
        tokens=4,
        sanitize_bits=40,
        private_weights=False,
    )
    client, server = open_sessions(backend, plan.params, plan.rotation_steps, public_key=plan.needs_public_key)
    module, x = synthetic_module(plan.shape, seed=1), synthetic_activations(plan.shape, 4, seed=1)
    run = run_module(
        plan,
        encode_constants(plan, module, server.encoder),
        client,
        server,
        x,
        client_module=module if plan.packing.client_finishes else None,
    )
    runs = plan.runs(4)
    for sent, estimate, messages in (
        (run.bytes_up, plan.bytes_up, plan.counts.encrypts),
        (run.bytes_down, plan.bytes_down, plan.counts.decrypts),
    ):
        assert LEAST * runs * estimate <= sent <= runs * (estimate + messages * HEADER_BYTES)


def test_the_estimate_of_keys_bounds_what_seal_sends_and_is_at_most_thrice_as_much() -> None:
    backend = get_manager().load_backend("tenseal")
    params = CKKSParams(ring_degree=8192, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
    plan = compile_plan(
        ModuleShape.parse("96:64:4"), get_manager().load_packing("rank_bsgs"), params=params, private_weights=False
    )
    client, _ = open_sessions(backend, plan.params, plan.rotation_steps)
    nothing, _ = open_sessions(backend, plan.params, ())
    sent = len(client.evaluation_keys()) - len(nothing.evaluation_keys())
    assert LEAST_OF_KEYS * plan.key_bytes <= sent <= plan.key_bytes + len(plan.rotation_steps) * HEADER_BYTES
