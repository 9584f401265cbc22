"""The abilities of a backend, as data that plans are checked against, so that no code needs ``if backend == ...``."""

from __future__ import annotations

from enum import Enum

import msgspec

from helora_core.params.ckks import MAX_PRIME_BITS
from helora_core.params.noise import NoiseModel


class Encoding(str, Enum):
    """How numbers become a plaintext polynomial m of Z[x]/(x^N + 1), rounded at the scale."""

    SLOTS = "slots"
    """Real values in the N/2 slots of the canonical embedding; shorter vectors are padded with zeros."""
    COMPLEX_SLOTS = "complex_slots"
    """Complex values in the slots."""
    COEFFICIENTS = "coefficients"
    """Real values as the N coefficients of m: products are negacyclic convolutions."""
    SCALAR = "scalar"
    """One real value in every slot, which is the constant polynomial."""
    INTEGERS = "integers"
    """The coefficients of m themselves, as residues modulo each prime: what must be exact beyond a double's 53 bits."""


class RescaleMode(str, Enum):
    """Whether the program or the library divides by a prime after a multiplication."""

    EXPLICIT = "explicit"
    """The program says when (SEAL, OpenFHE's FIXEDMANUAL)."""
    AUTOMATIC = "automatic"
    """The library decides when (OpenFHE's FLEXIBLEAUTO); ``rescale`` then only marks the place."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """The abilities of a backend. Core substitutes for a missing ability where it can, and refuses where it cannot.

    Attributes:
        encodings: The encodings it takes itself, SLOTS at least. Core makes COEFFICIENTS from INTEGERS, exactly, or
            otherwise from COMPLEX_SLOTS by the canonical embedding; and SCALAR from SLOTS.
        rescale: Whether programs rescale or the library does.
        slot_generator: g, if slot j is the polynomial's value at exp(iπ·g^j/N): 5, or 3 in SEAL. It must be right for
            coefficients that core makes from complex slots to be the polynomial's own.
        free_plaintext_scale: Whether each plaintext may have a scale of its own; if not, all have the parameters'.
        symmetric_encryption: Whether the client encrypts with its secret key; if not, with a public key of its own,
            which adds more noise.
        keyswitch_floors: Whether the division that ends a key switch rounds down. The plugin has to make up for the
            mean loss with random bits; otherwise it gathers in a few slots, far above all other noise.
        centred_digits: Whether the digits of a key switch go from -q/2 to q/2. If they go from 0 to q, slot 0 is far
            noisier than the others.
        longest_prime_bits: The longest primes that plans for it should have: longer ones work, but more slowly.
        reserves_special: Whether the library takes one prime of several for a special one even if no key is switched.
        public_key: Whether a server can encrypt with a public key (``SupportsPublicKey``).
        hoisting: Whether it rotates one ciphertext by many steps more cheaply than one by one (``SupportsHoisting``).
        programs: Whether it runs whole programs (``SupportsPrograms``).
        defers_division: Whether its programs divide a sum of rotations by the special primes, and not each of them.
        sanitizing: Whether its server sanitises by itself (``SupportsSanitize``).
        short_results: Whether its results can be sent without their low bits (``SupportsShortResults``).
        correlations: Whether plans can run ahead of time on it (``SupportsCorrelations``).
        seeded_keys: Whether ``generate_keys`` takes a seed. Only an emulation should.
        compressed_upload: Whether a fresh ciphertext travels as one polynomial and a seed.
    """

    encodings: frozenset[Encoding]
    rescale: RescaleMode = RescaleMode.EXPLICIT
    slot_generator: int = 5
    free_plaintext_scale: bool = True
    symmetric_encryption: bool = True
    keyswitch_floors: bool = False
    centred_digits: bool = False
    longest_prime_bits: int = MAX_PRIME_BITS
    reserves_special: bool = True
    public_key: bool = False
    hoisting: bool = False
    programs: bool = False
    defers_division: bool = False
    sanitizing: bool = False
    short_results: bool = False
    correlations: bool = False
    seeded_keys: bool = False
    compressed_upload: bool = False

    @property
    def noise_model(self) -> NoiseModel:
        """The choices of the backend that bounds on noise and floods depend on."""
        return NoiseModel(
            public_encryption=not self.symmetric_encryption,
            keyswitch_floors=self.keyswitch_floors,
            centred_digits=self.centred_digits,
            nominal_scales=not self.free_plaintext_scale,
        )

    @property
    def exact_integers(self) -> bool:
        """Whether polynomials are encoded and decrypted as residues modulo the primes, without doubles in between."""
        return Encoding.INTEGERS in self.encodings
