"""The scheme on the kernels that are chosen: what the conformance kit does not see."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest

from helora_core.backend.primes import distinct_ntt_primes, is_prime
from helora_rns import embedding
from helora_rns.arrays import aligned_copy
from helora_rns.kernels import Doubles
from helora_rns.scheme import encoding, sampling
from helora_rns.scheme.ciphertexts import Ciphertext, Plaintext
from helora_rns.scheme.context import Context, Parameters, context
from helora_rns.scheme.encryption import Decryptor, Encryptor, PublicEncryptor
from helora_rns.scheme.evaluation import Evaluator
from helora_rns.scheme.keys import PublicKey, RotationKey, SecretKey
from helora_rns.scheme.zeros import Zeros

N, SCALE = 1024, 2.0**40
STEPS = (1, 3, 200, 511)


def ring(data: tuple[int, ...] = (49, 40, 40), special: tuple[int, ...] = (50,), n: int = N) -> Context:
    found = distinct_ntt_primes(data + special, n)
    return context(Parameters(n, found[: len(data)], found[len(data) :]))


class Party:
    """Both roles."""

    def __init__(self, ring: Context) -> None:
        self.ring = ring
        self.secret = SecretKey(ring)
        self.encryptor, self.decryptor = Encryptor(ring, self.secret), Decryptor(ring, self.secret)
        keys = [RotationKey.of(ring, self.secret, step) for step in STEPS] if ring.specials else []
        self.evaluator = Evaluator(ring, keys)

    def sealed(self, slots: Doubles) -> Ciphertext:
        return self.encryptor.encrypt(encoding.coefficients_of_slots(self.ring, slots, SCALE), SCALE)

    def plain(self, slots: Doubles, level: int) -> Plaintext:
        basis = self.ring.basis(level)
        values = encoding.residues_of(self.ring, encoding.coefficients_of_slots(self.ring, slots, SCALE), basis)
        self.ring.kernels.forward(values, basis)
        return Plaintext(values, level, SCALE)

    def opened(self, ciphertext: Ciphertext) -> Doubles:
        return encoding.slots_of(self.ring, self.decryptor.coefficients(ciphertext), ciphertext.scale).real


@functools.cache
def party(special: tuple[int, ...] = (50,)) -> Party:
    return Party(ring(special=special))


def numbers(seed: int, count: int = N // 2) -> Doubles:
    return np.random.default_rng(seed).uniform(-1, 1, count)


class TestSampling:
    """What a seed expands to, and how it is distributed."""

    @pytest.mark.parametrize(
        ("nonce", "block"),
        [
            (bytes(12), "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"),
            (bytes(11) + b"\x02", "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"),
        ],
    )
    def test_the_stream_of_a_seed_is_chacha20(self, nonce: bytes, block: str) -> None:
        """RFC 8439, appendix A.1, test vectors 1 and 5: the key is zero."""
        assert sampling.Stream(bytes(32), nonce).words(4).astype("<u8").tobytes().hex() == block

    def test_a_long_stream_is_the_same_in_pieces(self) -> None:
        whole, pieces = sampling.Stream(bytes(32)), sampling.Stream(bytes(32))
        words = whole.words(300_000)
        assert (np.concatenate([pieces.words(k).copy() for k in (1, 131_072, 168_927)]) == words).all()

    def test_uniform_residues_are_the_words_that_are_below_the_prime(self) -> None:
        own = ring(data=(49, 40), special=())
        first, second = sampling.uniform(own, bytes(32), (0, 1), 2)
        words = iter(sampling.Stream(bytes(32)).words(6 * N).tolist())
        for row, prime in ((first[0], 0), (first[1], 1), (second[0], 0), (second[1], 1)):
            q = own.primes[prime]
            candidates = (word & ((1 << q.bit_length()) - 1) for word in words)
            assert row.tolist() == list(itertools.islice((c for c in candidates if c < q), N))

    def test_primes_far_below_a_power_of_two_get_enough_words(self) -> None:
        q = next(p for p in range((1 << 39) + 1, 1 << 40, 2 * N) if p % (2 * N) == 1 and is_prime(p))
        own = context(Parameters(N, (q,)))
        (row,) = sampling.uniform(own, bytes(32), (0,))[0]
        assert int(row.max()) < q
        assert abs(float(row.mean()) / q - 0.5) < 0.05

    def test_secrets_are_ternary_and_of_their_seed(self) -> None:
        wide = ring(n=1 << 16)
        drawn = sampling.ternary(wide, bytes(32))
        counts = [int(np.sum(drawn == value)) for value in (-1, 0, 1)]
        assert sum(counts) == 1 << 16
        assert all(abs(count - (1 << 16) / 3) < 800 for count in counts)
        assert (sampling.ternary(wide, bytes(32)) == drawn).all()
        assert (sampling.ternary(wide, bytes(31) + b"1") != drawn).any()

    def test_errors_are_centred_binomial(self) -> None:
        drawn = sampling.errors(ring(), 64).ravel()
        assert abs(float(drawn.mean())) < 0.06
        assert abs(float(drawn.std()) / 10.5**0.5 - 1) < 0.015
        assert float(np.abs(drawn).max()) <= 21


class TestEncoding:
    """Integers of any size, exactly."""

    @pytest.mark.parametrize("bits", [0, 30, 52, 60, 97, 98, 99, 120, 140])
    def test_large_coefficients_are_reduced_exactly(self, bits: int) -> None:
        own = ring(data=(49, 40, 40, 40), special=())
        values = encoding.coefficients_of_numbers(own, numbers(1, 100), 2.0**bits)
        found = encoding.residues_of(own, values, own.whole)
        for row, q in zip(found, own.primes, strict=True):
            assert row.tolist() == [int(v) % q for v in values]

    def test_a_constant_is_that_integer_everywhere(self) -> None:
        own = ring()
        coefficients = encoding.coefficients_of_numbers(own, np.array([-0.7]), 2.0**60)
        expected = encoding.residues_of(own, coefficients, own.whole)
        own.kernels.forward(expected, own.whole)
        assert (encoding.constant(own, -0.7, 2.0**60, own.whole) == expected).all()

    def test_slots_come_back(self) -> None:
        own = ring()
        slots = numbers(2) + 1j * numbers(3)
        coefficients = encoding.coefficients_of_slots(own, slots, SCALE)
        assert np.max(np.abs(encoding.slots_of(own, coefficients, SCALE) - slots)) < N / SCALE


class TestScheme:
    """Encryption and evaluation."""

    def test_a_large_scale_goes_beyond_doubles(self) -> None:
        own = party()
        scale = 2.0**100
        sealed = own.encryptor.encrypt(encoding.coefficients_of_slots(own.ring, numbers(1), scale), scale)
        assert np.max(np.abs(own.opened(sealed) - numbers(1))) < 1e-13

    def test_one_prime_is_enough_for_encryption(self) -> None:
        alone = Party(ring(data=(50,), special=()))
        assert np.max(np.abs(alone.opened(alone.sealed(numbers(1))) - numbers(1))) < 2e-9
        with pytest.raises(ValueError, match="special"):
            RotationKey.of(alone.ring, alone.secret, 1)

    @pytest.mark.parametrize("special", [(50,), (30, 30), (60,)])
    @pytest.mark.parametrize("steps", STEPS)
    def test_rotations_at_every_level(self, special: tuple[int, ...], steps: int) -> None:
        own = party(special)
        ciphertext, expected = own.sealed(numbers(1)), numbers(1)
        while True:
            rotated = own.evaluator.rotate(ciphertext, steps)
            # At the last level the scale is small.
            assert np.max(np.abs(own.opened(rotated) - np.roll(expected, -steps))) < 2.0**18 / ciphertext.scale
            if ciphertext.level == 0:
                return
            one = own.plain(np.ones(N // 2), ciphertext.level)
            ciphertext = own.evaluator.rescale(own.evaluator.multiply_plain(ciphertext, one))

    def test_hoisted_rotations_are_the_same_to_the_bit(self) -> None:
        own = party()
        ciphertext = own.sealed(numbers(1))
        for step, hoisted in zip(STEPS, own.evaluator.rotate_many(ciphertext, STEPS), strict=True):
            assert (hoisted.values == own.evaluator.rotate(ciphertext, step).values).all()

    @pytest.mark.parametrize("terms", [1, 2, 256, 300])
    def test_a_dot_product_is_the_sum_of_products_to_the_bit(self, terms: int) -> None:
        own = party()
        few = [own.sealed(numbers(i)) for i in range(3)]
        plain = [own.plain(numbers(20 + i), 2) for i in range(5)]
        left, right = [few[i % 3] for i in range(terms)], [plain[i % 5] for i in range(terms)]
        expected = own.evaluator.multiply_plain(left[0], right[0])
        for a, b in zip(left[1:], right[1:], strict=True):
            expected = own.evaluator.add(expected, own.evaluator.multiply_plain(a, b))
        found = own.evaluator.dot_plain(left, right)
        assert (found.values == expected.values).all()
        assert (found.level, found.scale) == (expected.level, expected.scale)

    def test_public_key_encryptions_open(self) -> None:
        own = party()
        public = PublicEncryptor(own.ring, Zeros(own.ring, PublicKey.of(own.ring, own.secret)))
        sealed = public.encrypt(encoding.coefficients_of_slots(own.ring, numbers(1), SCALE), SCALE)
        assert np.max(np.abs(own.opened(sealed) - numbers(1))) < 2.0**17 / SCALE

    def test_slots_rotate_by_powers_of_five(self) -> None:
        assert embedding.galois_element(3, N) == 125
        assert embedding.galois_element(N // 2, N) == 1

    def test_keys_do_not_show_their_secret(self) -> None:
        own = party()
        assert repr(own.secret) == "SecretKey()"
        assert own.secret.seed.hex() not in repr(vars(own.secret)["values"])

    def test_all_kernel_sets_make_the_same_ciphertexts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same seeds give the same bits, through encryption, a key switch and a rescale, on every set."""
        from helora_rns import choice

        results = set()
        for name in choice.available():
            monkeypatch.setenv(choice.VARIABLE, name)
            seeds = iter(bytes([i]) * 32 for i in range(100))
            monkeypatch.setattr(sampling, "fresh_seed", lambda seeds=seeds: next(seeds))
            found = distinct_ntt_primes((49, 40, 60, 50), N)
            own = Party(Context(Parameters(N, found[:3], found[3:])))
            assert own.ring.kernels.name == name
            product = own.evaluator.multiply_plain(own.sealed(numbers(1)), own.plain(numbers(2), 2))
            result = own.evaluator.rescale(own.evaluator.rotate(product, 3))
            results.add(result.values.tobytes() + aligned_copy(own.opened(result)).tobytes())
        assert len(results) == 1
