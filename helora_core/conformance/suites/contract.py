"""The contract itself: names, signatures, the parameters really used, and availability in words."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from helora_core.backend import protocol
from helora_core.backend.capabilities import Capabilities, Encoding
from helora_core.backend.correlations import SupportsCorrelations
from helora_core.backend.encoder import PlaintextEncoder
from helora_core.backend.short_results import SupportsShortening, SupportsShortResults
from helora_core.conformance.absence import Answer, ask_without, modules_of
from helora_core.conformance.bench import PARAMS, STEPS, Bench
from helora_core.errors import InvalidParameters
from helora_core.host.manager import get_manager
from helora_core.params.ckks import CKKSParams
from helora_core.params.security import require_secure


def _lacks(subject: object, contract: type) -> list[str]:
    """Methods of ``contract`` that ``subject`` does not offer with the same parameters."""
    lacking = []
    for name, method in inspect.getmembers(contract, inspect.isfunction):
        if name.startswith("_"):
            continue
        offered = getattr(subject, name, None)
        if not callable(offered):
            lacking.append(name)
            continue
        wanted = [p for p in inspect.signature(method).parameters.values() if p.name != "self"]
        found = [p for p in inspect.signature(offered).parameters.values() if p.name != "self"]
        if [(p.name, p.kind, p.default) for p in found] != [(p.name, p.kind, p.default) for p in wanted]:
            lacking.append(f"{name}{inspect.signature(method)}")
    return lacking


class Contract:
    """Laws about a backend before anything is computed."""

    def test_the_backend_has_a_name_and_capabilities(self, bench: Bench) -> None:
        assert bench.backend.name
        assert isinstance(bench.backend.name, str)
        assert isinstance(bench.capabilities, Capabilities)
        assert Encoding.SLOTS in bench.capabilities.encodings

    def test_every_method_has_the_signature_of_the_protocol(self, bench: Bench) -> None:
        decryptor, evaluator = bench.library.generate_keys(bench.params, STEPS[:1])
        for role, contract in (
            (bench.library, protocol.Backend),
            (bench.library.encoder(bench.params), protocol.Encoder),
            (decryptor, protocol.Decryptor),
            (evaluator, protocol.Evaluator),
        ):
            lacking = _lacks(role, contract)
            assert not lacking, f"{type(role).__name__} lacks {', '.join(lacking)}"

    def test_optional_abilities_are_claimed_if_and_only_if_they_are_there(self, bench: Bench) -> None:
        decryptor, evaluator = bench.library.generate_keys(bench.params, STEPS[:1])
        assert isinstance(evaluator, protocol.SupportsHoisting) == bench.capabilities.hoisting
        assert isinstance(evaluator, protocol.SupportsPublicKey) == bench.capabilities.public_key
        assert isinstance(evaluator, protocol.SupportsSanitize) == bench.capabilities.sanitizing
        assert isinstance(evaluator, SupportsShortening) == bench.capabilities.short_results
        assert isinstance(decryptor, SupportsShortResults) or not bench.capabilities.short_results
        assert isinstance(bench.library, protocol.SupportsPrograms) == bench.capabilities.programs
        assert isinstance(bench.library, SupportsCorrelations) == bench.capabilities.correlations
        for claimed, role, contract in (
            (bench.capabilities.correlations, bench.library, SupportsCorrelations),
            (bench.capabilities.hoisting, evaluator, protocol.SupportsHoisting),
            (bench.capabilities.public_key, evaluator, protocol.SupportsPublicKey),
            (bench.capabilities.sanitizing, evaluator, protocol.SupportsSanitize),
            (bench.capabilities.short_results, evaluator, SupportsShortening),
            (bench.capabilities.short_results, decryptor, SupportsShortResults),
            (bench.capabilities.programs, bench.library, protocol.SupportsPrograms),
        ):
            assert not claimed or not _lacks(role, contract)
        # Core computes the scales of a program, so a library that keeps none, or rescales by itself, runs none whole.
        assert PlaintextEncoder(bench.backend, bench.params).prepares == bench.capabilities.programs
        assert not isinstance(decryptor, protocol.SupportsMany) or not _lacks(decryptor, protocol.SupportsMany)

    def test_both_roles_bear_the_same_fresh_key_id(self, bench: Bench) -> None:
        ids = []
        for _ in range(2):
            decryptor, evaluator = bench.backend.generate_keys(bench.params, ())
            assert decryptor.key_id == evaluator.key_id
            ids.append(decryptor.key_id)
        assert ids[0] != ids[1]
        assert [len(key_id) for key_id in ids] == [16, 16]

    def test_resolve_keeps_the_ring_the_levels_and_the_scale(self, bench: Bench) -> None:
        """A plan runs with the parameters it was compiled for: a library that would narrow the ring must refuse."""
        params = bench.backend.resolve(PARAMS)
        assert isinstance(params, CKKSParams)
        assert params.ring_degree == PARAMS.ring_degree
        assert params.max_level == PARAMS.max_level
        assert params.scale_bits == PARAMS.scale_bits
        for bits, wanted in zip(params.data_bits, PARAMS.data_bits, strict=True):
            assert abs(bits - wanted) <= 1
        # Smaller special primes mean more noise, and tolerances are computed from what is stated here.
        assert sum(params.special_bits) >= sum(PARAMS.special_bits) - 1

    def test_resolve_states_the_primes_that_are_really_used(self, bench: Bench) -> None:
        params = bench.backend.resolve(PARAMS)
        assert len(params.data_primes) == len(params.data_bits)
        assert len(params.special_primes) == len(params.special_bits)
        primes = params.data_primes + params.special_primes
        assert len(set(primes)) == len(primes)
        for prime in primes:
            assert prime % (2 * params.ring_degree) == 1, f"{prime} has no NTT of length {params.ring_degree}"
            assert all(pow(base, prime - 1, prime) == 1 for base in (2, 3, 5, 7)), f"{prime} is not prime"

    def test_what_resolve_states_is_secure_and_stable(self, bench: Bench) -> None:
        params = bench.backend.resolve(PARAMS)
        assert require_secure(params).secure
        assert bench.backend.resolve(params) == params

    def test_parameters_beyond_any_library_are_refused_and_not_narrowed(self, bench: Bench) -> None:
        """There are no ten different primes of 13 bits that are 1 mod 4096, as a ring of 2048 would need."""
        impossible = CKKSParams(ring_degree=2048, data_bits=(13,) * 10, special_bits=(13,), scale_bits=13)
        with pytest.raises(InvalidParameters):
            bench.backend.resolve(impossible)

    def test_nothing_is_printed(self, bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
        """Standard output belongs to the program; a library must raise its errors instead of printing them."""
        client, server = bench.open(steps=(1,))
        sealed = server.receive(client.send(client.encrypt(np.ones(3), scale_bits=bench.params.scale_bits)))
        plain = server.encoder.encode(np.ones(3), level=bench.params.max_level, scale_bits=bench.params.scale_bits)
        product = server.evaluator.multiply_plain(server.evaluator.rotate(sealed, 1), plain)
        client.decrypt(client.receive(server.send(server.evaluator.rescale(product))))
        assert capfd.readouterr() == ("", "")

    def test_listing_the_backend_imports_none_of_its_code(self, bench: Bench) -> None:
        """Optional means lazy: listing the installed backends must not import them."""
        assert not _asked(bench, hiding_its_library=False).imported_by_listing

    def test_where_its_library_is_missing_it_says_so_in_words(self, bench: Bench) -> None:
        """``availability`` returns the reason; it neither raises nor leaves the failure to the first use."""
        answer = _asked(bench, hiding_its_library=True)
        assert not answer.failures
        assert answer.availability, "its library cannot be found, and availability() is None"


def _asked(bench: Bench, *, hiding_its_library: bool) -> Answer:
    registered = get_manager().backends().get(bench.backend.name)
    if registered is None:
        pytest.skip("not registered")
    modules = modules_of(registered) if hiding_its_library else []
    if hiding_its_library and not modules:
        pytest.skip("its library is always installed with it")
    return ask_without(registered, modules)
