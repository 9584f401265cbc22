"""Attacks of a curious client on results, and the properties of a library that sanitising depends on.

Each attack first succeeds on a result that is not sanitised, since one that never succeeds would prove nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Ciphertext, Sanitizing
from helora_core.backend.residues import values_of
from helora_core.backend.sanitize import encryption_of_zero
from helora_core.backend.session import ServerSession
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.request import BackendTraits
from helora_core.conformance.bench import SCALE_BITS, SLOTS, Bench
from helora_core.conformance.requirements import requires
from helora_core.conformance.values import random_slots
from helora_core.errors import InsecureParameters
from helora_core.execution.constants import encode_constants
from helora_core.execution.executor import Execution
from helora_core.host.manager import get_manager
from helora_core.params import noise
from helora_core.parties.client_run import ClientRun
from helora_core.privacy.policy import DEFAULT_SANITIZE_BITS

DEVIATIONS = 5.0
"""Standard deviations that a statistic exceeds by chance only once in two million tries."""

WEIGHT_SCALE_BITS = 30
FLOOD_BITS, MASK_BITS = 60, 90
"""In integer units. The flood is 2^30 times the noise of a product, and less than the product; the mask exceeds the
precision of a double and the length of a word."""

READ = tuple(range(0, SLOTS, 2))

ZEROS = 9
"""If they come from a pool of eight or fewer, two of these are the same."""

MODULE = ModuleShape(d_in=32, d_out=24, rank=4)


class Attacks:
    """Sanitised results, as the client sees them."""

    @requires("explicit rescaling", "public key", "free plaintext scale", "complex slots")
    def test_a_sanitised_query_of_zeros_says_nothing_of_the_weights(self, bench: Bench) -> None:
        """The client knows its own encryption's error, and the result has that error times the weights."""
        sent, product, weights = _product(bench, np.zeros(1))
        expected = bench.decrypted(sent) * weights
        bare = _correlation(bench.decrypted(product), expected)
        assert bare > 0.9, f"the attack fails on a result that is not sanitised: {bare:.3f}"
        found = _correlation(bench.decrypted(_sanitized(bench, product)), expected)
        assert found <= _chance(SLOTS), f"correlation {found:.3f}; {_chance(SLOTS):.3f} by chance"

    @requires("explicit rescaling", "public key", "free plaintext scale", "complex slots")
    def test_equal_queries_agree_in_what_is_read_alone(self, bench: Bench) -> None:
        """Slots that are not kept, and imaginary parts, get fresh noise each time."""
        _, product, _ = _product(bench, random_slots(51) / 8)
        others = np.setdiff1d(np.arange(SLOTS), READ)
        once, again = (bench.decrypted(_sanitized(bench, product, keep=READ), Encoding.COMPLEX_SLOTS) for _ in range(2))
        assert _correlation(once.real[list(READ)], again.real[list(READ)]) > 0.9
        for what, left, right in (
            ("unread slots", once.real[others], again.real[others]),
            ("imaginary parts", once.imag, again.imag),
        ):
            found = _correlation(left, right)
            assert found <= _chance(left.size), f"{what}: correlation {found:.3f}; {_chance(left.size):.3f} by chance"

    @requires("explicit rescaling", "public key", "free plaintext scale", "complex slots")
    def test_floods_and_masks_are_as_large_as_asked(self, bench: Bench) -> None:
        _, product, _ = _product(bench, np.zeros(1))
        scale = bench.evaluator.scale(product)
        slots = bench.decrypted(_sanitized(bench, product, keep=READ), Encoding.COMPLEX_SLOTS) * scale
        others = np.setdiff1d(np.arange(SLOTS), READ)
        # Two thousand numbers give their deviation to 1.6 %.
        for what, part, bits in (
            ("flood", slots.real[list(READ)], FLOOD_BITS + math.log2(SLOTS) / 2),
            ("mask", slots.real[others], MASK_BITS),
            ("mask of imaginary parts", slots.imag, MASK_BITS),
        ):
            found = math.log2(float(np.std(part)))
            assert abs(found - bits) < 0.15, f"the {what} is 2^{found:.2f}, and 2^{bits:.2f} was asked for"

    @requires("explicit rescaling", "public key")
    def test_encryptions_of_zero_are_fresh_at_every_level(self, bench: Bench) -> None:
        """Two results with the same encryption of zero give the weights away: their difference is a bare product."""
        evaluator = bench.evaluator.unmetered
        for level in range(bench.params.max_level, -1, -1):
            zeros = [
                encryption_of_zero(evaluator, bench.params, bench.capabilities, level=level, scale=2.0**SCALE_BITS)
                for _ in range(ZEROS)
            ]
            errors = [bench.decrypted(zero) * 2.0**SCALE_BITS for zero in zeros]
            least = noise.rescale_std(bench.params.ring_degree) / 4
            assert min(float(np.std(each)) for each in errors) >= least, f"level {level}: a zero without noise"
            # Key and public key make some slots of every zero noisier than others: each is measured by its own spread,
            # or a few noisy slots would dominate, and chance would look like a correlation.
            spread = np.sqrt(np.mean(np.square(errors), axis=0))
            alike = max(_correlation(left / spread, right / spread) for left, right in combinations(errors, 2))
            assert alike <= _chance(SLOTS), f"level {level}: two of {ZEROS} zeros correlate by {alike:.2f}"

    @requires("sanitizing", "explicit rescaling", "public key", "free plaintext scale", "complex slots")
    def test_sanitised_results_are_random_anew_each_time(self, bench: Bench) -> None:
        """Each result needs its own encryption of zero, which hides the weights in its polynomials. Some may have been
        made ahead of time. No flood here."""
        _, product, _ = _product(bench, np.zeros(1))
        how = [Sanitizing(Encoding.SLOTS, 0, 0, None)] * ZEROS
        bare, scale = bench.decrypted(product), bench.evaluator.scale(product)
        bench.server.prepare_zeros(bench.params.max_level, ZEROS // 2)
        errors = [(bench.decrypted(each) - bare) * scale for each in bench.server.sanitize_many([product] * ZEROS, how)]
        assert min(map(float, map(np.std, errors))) >= noise.rescale_std(bench.params.ring_degree) / 4
        spread = np.sqrt(np.mean(np.square(errors), axis=0))
        alike = max(_correlation(left / spread, right / spread) for left, right in combinations(errors, 2))
        assert alike <= _chance(SLOTS), f"two of {ZEROS} results correlate by {alike:.2f}"

    @requires("sanitizing", "explicit rescaling", "public key", "free plaintext scale", "complex slots")
    def test_sanitising_many_gives_each_its_own(self, bench: Bench) -> None:
        """Each result gets its own flood and mask, whatever the others in the same call get."""
        _, product, _ = _product(bench, np.zeros(1))
        scale, others = bench.evaluator.scale(product), np.setdiff1d(np.arange(SLOTS), READ)
        sizes = ((FLOOD_BITS, MASK_BITS), (FLOOD_BITS + 6, MASK_BITS - 6), (FLOOD_BITS - 6, MASK_BITS))
        how = [Sanitizing(Encoding.SLOTS, flood_bits, mask_bits, READ) for flood_bits, mask_bits in sizes]
        made = bench.server.sanitize_many([product] * len(how), how)
        for (flood_bits, mask_bits), result in zip(sizes, made, strict=True):
            slots = bench.decrypted(result) * scale
            for part, bits in ((slots[list(READ)], flood_bits + math.log2(SLOTS) / 2), (slots[others], mask_bits)):
                found = math.log2(float(np.std(part)))
                assert abs(found - bits) < 0.15, f"2^{found:.2f}, and 2^{bits:.2f} was asked for"

    @requires("explicit rescaling", "public key", "free plaintext scale", "complex slots")
    def test_clean_results_are_divided_as_asked(self, bench: Bench) -> None:
        """A result that is divided afterwards holds the same values at a lower level, up to the rounding."""
        _, product, _ = _product(bench, random_slots(51) / 8)
        level, scale = bench.evaluator.level(product), bench.evaluator.scale(product)
        for dropped, prime in enumerate(bench.params.data_primes[:0:-1], 1):
            scale /= prime
            if scale < 2.0**24:
                break
            (clean,) = bench.server.sanitize_many([product], [Sanitizing(Encoding.SLOTS, 0, 0, None, dropped)])
            assert (bench.evaluator.level(clean), bench.evaluator.scale(clean)) == (level - dropped, scale)
            errors = (bench.decrypted(clean) - bench.decrypted(product)) * scale
            assert float(np.std(errors)) < 2 * noise.rescale_std(bench.params.ring_degree)

    @requires("explicit rescaling", "public key", "exact integers")
    def test_masked_values_are_uniform_and_unmask_exactly(self, bench: Bench) -> None:
        """A masked value looks uniform modulo the modulus to the client; subtracting the mask gives the value."""
        message = np.random.default_rng(52).integers(-1000, 1000, size=2 * SLOTS).astype(np.float64)
        sealed = bench.client.encrypt(message, scale_bits=SCALE_BITS, encoding=Encoding.COEFFICIENTS)
        ciphertext = bench.server.receive(bench.client.send(sealed))
        hidden, mask = bench.server.uniform_mask(ciphertext)
        primes = bench.params.data_primes
        seen = bench.decrypted(hidden, Encoding.INTEGERS)
        whole = values_of(seen, primes, float(math.prod(primes))) + 0.5
        for shares in (whole, *(row / prime for row, prime in zip(seen, primes, strict=True))):
            off = abs(float(np.mean(shares)) - 0.5) * math.sqrt(12 * shares.size)
            spread = abs(float(np.mean((shares - 0.5) ** 2)) - 1 / 12) * math.sqrt(180 * shares.size)
            assert max(off, spread) < DEVIATIONS, "masked values are not uniform"
        moduli = np.array(primes, dtype=np.uint64)[:, np.newaxis]
        left = values_of((seen + (moduli - mask)) % moduli, primes, 2.0**SCALE_BITS)
        assert np.max(np.abs(left - message)) < 2.0**-20, "the mask does not come off"

    @requires("explicit rescaling", "public key", "free plaintext scale", "complex slots")
    def test_noise_under_the_floods_of_a_plan_is_hidden(self, bench: Bench) -> None:
        """A whole default plan: the flood hides the noise that its server would send, to a distance of 2^-40.

        The weights are as noisy as any of this shape: orthonormal rows of ``down``, and rows of ``up`` with norm one.
        """
        rng = np.random.default_rng(53)
        down = np.linalg.qr(rng.normal(size=(MODULE.d_in, MODULE.rank)))[0].T
        up = rng.normal(size=(MODULE.d_out, MODULE.rank))
        module = LoRAModule("attacked", down, up / np.linalg.norm(up, axis=1, keepdims=True) * 0.999, 1.0)
        packing = get_manager().load_packing("rank_bsgs")
        for ring_degree in (None, 16384):
            traits = BackendTraits.of([bench.capabilities])
            plan = compile_plan(MODULE, packing, module=module, ring_degree=ring_degree, traits=traits)
            try:
                client, server = bench.open(plan.params, plan.rotation_steps)
                break
            except InsecureParameters:  # from a library whose special primes are longer than those asked for
                continue
        constants = encode_constants(plan, module, server.encoder)
        run = ClientRun(plan, np.zeros((1, MODULE.d_in)))
        bare = _Bare(server.evaluator, server.encoder)
        inputs = [server.deserialize(payload) for payload in run.inputs(client)]
        for output, result in zip(plan.program.results, Execution(plan, constants).proceed(bare, inputs), strict=True):
            read = client.decrypt(client.receive(server.send(result)), encoding=Encoding.COEFFICIENTS)
            norm = float(np.linalg.norm(read)) * server.evaluator.scale(result)
            distance = math.log2(norm) - 1 - constants.report.flood_bits[output]
            assert distance <= -DEFAULT_SANITIZE_BITS, f"noise of 2^{math.log2(norm):.1f}: distance 2^{distance:.1f}"


class _Bare(ServerSession):
    """A server that sends results without sanitising them."""

    def sanitize_many(self, ciphertexts: Sequence[Ciphertext], how: Sequence[Sanitizing]) -> list[Ciphertext]:
        return list(ciphertexts)


def _product(bench: Bench, x: NDArray[np.float64]) -> tuple[Ciphertext, Ciphertext, NDArray[np.float64]]:
    """A client's ciphertext, its product with weights, and the weights."""
    weights = random_slots(50) / 8
    sent, _ = bench.encrypted(x)
    encoded = bench.server.encoder.encode(weights, level=bench.params.max_level, scale_bits=WEIGHT_SCALE_BITS)
    return sent, bench.evaluator.multiply_plain(sent, encoded), weights


def _sanitized(bench: Bench, result: Ciphertext, *, keep: tuple[int, ...] | None = None) -> Ciphertext:
    mask_bits = MASK_BITS if keep else 0
    return bench.server.sanitize(result, encoding=Encoding.SLOTS, flood_bits=FLOOD_BITS, mask_bits=mask_bits, keep=keep)


def _correlation(left: NDArray[Any], right: NDArray[Any]) -> float:
    if not np.std(left) or not np.std(right):
        return 0.0
    return abs(float(np.corrcoef(left, right)[0, 1]))


def _chance(pairs: int) -> float:
    return DEVIATIONS / math.sqrt(pairs)
