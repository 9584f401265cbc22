"""The library behind the backend: whether it is there, how noisy it is, and whole modules on it."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys

import numpy as np
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.checked_backend import checked
from helora_core.compiler.compile import compile_plan
from helora_core.execution.reference import precision_bits
from helora_core.host.manager import get_manager
from helora_core.installing import install_line
from helora_core.params import noise
from helora_core.params.ckks import CKKSParams
from helora_core.parties.adapter_run import ModuleJob, run_adapter

pytest.importorskip("Pyfhel")

from helora_pyfhel import availability
from helora_pyfhel.backend import PyfhelBackend

QUICK = CKKSParams(ring_degree=1024, data_bits=(48, 30, 34), special_bits=(48,), scale_bits=30)
SCALE = 2.0**30


class TestAvailability:
    def test_a_missing_library_is_said_in_words(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        reason = availability()
        assert reason is not None
        assert install_line("pyfhel") in reason

    def test_listing_does_not_import_it(self) -> None:
        """In a process of its own, for this one has imported it."""
        code = (
            "import sys; from helora_core.host.manager import get_manager; "
            "backend = get_manager().backends()['pyfhel']; "
            "assert backend.availability is None, backend.availability; "
            "assert 'Pyfhel' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestNoise:
    """Root mean squares over slots, encryptions and keys, in units of 1/scale."""

    @pytest.mark.parametrize("ring_degree", [1024, 4096])
    @pytest.mark.parametrize("who", ["client", "server"])
    def test_a_fresh_encryption_has_the_noise_of_a_rescale(self, ring_degree: int, who: str) -> None:
        """SEAL encrypts with the public key modulo QP and divides by P, which leaves the rounding."""
        backend = checked(PyfhelBackend())
        params = backend.resolve(
            CKKSParams(ring_degree=ring_degree, data_bits=(48, 30), special_bits=(48,), scale_bits=30)
        )
        decryptor, evaluator = backend.generate_keys(params, (), public_key=True)
        encrypt = decryptor.encrypt if who == "client" else evaluator.encrypt_public
        values = np.random.default_rng(0).uniform(-1, 1, params.slots)
        errors = [decryptor.decrypt(encrypt(values, scale=SCALE)) - values for _ in range(4)]
        predicted = math.hypot(noise.rescale_std(ring_degree), noise.encoding_std(ring_degree))
        assert 0.8 < np.sqrt(np.mean(np.square(errors))) * SCALE / predicted < 1.25

    def test_a_rescale_and_a_rotation_have_the_predicted_noise(self) -> None:
        backend = checked(PyfhelBackend())
        params = backend.resolve(QUICK)
        values = np.random.default_rng(0).uniform(-1, 1, params.slots)
        rescaled, rotated = [], []
        for _ in range(10):
            decryptor, evaluator = backend.generate_keys(params, (1,))
            large = decryptor.encrypt(values, scale=2.0**60)
            small = evaluator.rescale(large)
            rescaled.append((decryptor.decrypt(small) - decryptor.decrypt(large)) * evaluator.scale(small))
            after = decryptor.decrypt(evaluator.rotate(large, 1))
            rotated.append((after - np.roll(decryptor.decrypt(large), -1)) * 2.0**60)
        for found, predicted in (
            (rescaled, noise.rescale_std(QUICK.ring_degree)),
            (rotated, noise.keyswitch_std(QUICK.ring_degree, QUICK.data_bits, 48)),
        ):
            assert 0.6 < np.sqrt(np.mean(np.square(found))) / predicted < 1.6


class TestLoRA:
    """Whole modules at 128-bit security; the runtime itself compares the executed operations with the plan's."""

    @pytest.mark.parametrize(
        ("packing", "shape", "tokens"),
        [("rank_bsgs", "1536:1536:16", 4), ("rank_bsgs", "37:90:5", 3), ("zero_moai", "576:192:8", 2)],
    )
    def test_delta_is_right_to_twelve_bits(self, packing: str, shape: str, tokens: int) -> None:
        manager, parsed = get_manager(), ModuleShape.parse(shape)
        plan = compile_plan(parsed, manager.load_packing(packing), private_weights=False)
        module, x = synthetic_module(parsed, seed=1), synthetic_activations(parsed, tokens, seed=2)
        (outcome,) = run_adapter(manager.load_backend("pyfhel"), [ModuleJob(module, x, plan)], private_weights=False)
        assert precision_bits(outcome.delta, module.reference_delta(x)) >= 12
        assert outcome.report.executed == plan.counts.times(plan.runs(tokens))
