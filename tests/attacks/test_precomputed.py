"""Plans that run ahead of time: every attack succeeds without the step that protects from it, and fails with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attackers.precomputed import masks, on_backends
from attackers.precomputed.cases import CASES, Case
from attackers.precomputed.model import (
    DEGREE,
    EXACT,
    PRIMES,
    Q1,
    F,
    Key,
    Q,
    Result,
    Server,
    Switching,
    T,
    centred,
    times,
    uniform,
    weights,
)

from helora_core.backend.protocol import Backend
from helora_core.host.manager import get_manager
from tests.parties.once import Party, UsedTwice, World
from tests.parties.places import Faults, Memory


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_attack_succeeds_without_a_step_and_fails_with_it(case: Case) -> None:
    unprotected, protected = case.unprotected(), case.protected()
    print(f"{case.statistic}: {unprotected:.3f} unprotected, {protected:.3f} protected; threshold {case.threshold:.3f}")
    assert unprotected > case.threshold, f"the attack fails though {case.off}"
    assert protected <= case.threshold


def test_the_protocol_that_is_attacked_is_right() -> None:
    assert masks.share_right() == 1


@pytest.fixture(params=["numpy", "rns"])
def backend(request: pytest.FixtureRequest) -> Backend:
    name = f"helora_{request.param}"
    pytest.importorskip(name)
    loaded = get_manager().load_backend(request.param)
    if not loaded.capabilities.correlations:
        pytest.skip(f"{name} does not run such plans")
    return loaded


@pytest.mark.parametrize(
    "attack", [on_backends.replayed, on_backends.modules_subtracted, on_backends.answers_subtracted]
)
def test_masks_used_twice_give_weights_away_on_a_backend(attack: object, backend: Backend) -> None:
    assert attack(backend, same_masks=True) == 1  # type: ignore[operator]
    assert attack(backend, same_masks=False) <= 0.1  # type: ignore[operator]


class TestWhatIsLeftOfErrors:
    """Where results are rounded: no mean is left, of which a client or server could make anything."""

    SHORT = Switching(top_bits=24, key_bits=24)

    def run(self, how: Switching, outputs: int = 40) -> tuple[Key, Result, object, object]:
        """A batch: its key, the result, W·r − mask, and the masks."""
        server, key = Server([weights(np.random.default_rng(4), outputs, 4)], how=how), Key()
        r = np.array([uniform(np.random.default_rng(), T) for _ in range(4)])
        result = server.results(0, key.public(), key.encrypt(r))
        down, up = server.modules[0]
        rows = [[server.mask(0, 0, row, token) for token in range(DEGREE)] for row in range(outputs)]
        pads = np.array(rows, object)
        return key, result, (up @ (down @ r) - pads) % T, pads

    def test_each_of_the_two_floors_costs_half_a_unit(self) -> None:
        """So that Δ = v + c + 1 has no mean error: a client that forgot the 1 would be off by one unit on average."""
        how = Switching(24, 36)
        key, result, expected, pads = self.run(how)
        of_c = centred((key.decrypt(result, how) << F) - expected) / (1 << F)
        of_v = centred((pads >> F << F) - pads) / (1 << F)
        for errors in (of_c, of_v):
            assert np.mean(errors.astype(float)) == pytest.approx(-0.5, abs=5 / np.sqrt(6 * errors.size))

    def test_low_bits_of_g_are_rebuilt_at_their_midpoint(self) -> None:
        """At zero instead, each token would be off by a number that depends on the key alone."""
        key, result, expected, _ = self.run(self.SHORT)
        half = np.full(DEGREE, 1 << F >> 1, dtype=object)
        of_key = centred(times(half, key.s) % T) / (1 << F)
        means = {}
        for name, rebuilt in (("midpoint", 1 << F >> 1), ("zero", 0)):
            whole = np.array([times((g << F) + rebuilt, key.s) % T for g in result.g])
            errors = centred((result.h << F) + whole - expected) / (1 << F)
            means[name] = np.mean(errors.astype(float), axis=0)
        spread = np.sqrt(DEGREE * 2 / 3 / 12 / len(result.g))
        assert np.std(means["midpoint"]) < 2 * spread
        np.testing.assert_allclose((means["midpoint"] - means["zero"]), of_key.astype(float), atol=1e-3)
        assert np.std(means["zero"]) > 2 * spread


class TestStatisticalDistances:
    """Errors that weights make far larger than any plan does, so that what is left of them is often enough to count."""

    OUTPUTS = 100

    def run(self, how: Switching, weight_bits: int) -> tuple[Key, Result, Any]:
        """A key, a result of weights 2^weight_bits, and the errors of the upload that it multiplies, shape (N,)."""
        down = np.array([[1 << weight_bits]], dtype=object)
        server, key = Server([(down, np.ones((self.OUTPUTS, 1), dtype=object))], how=how), Key()
        r = np.array([uniform(np.random.default_rng(), T)])
        upload = key.encrypt(r)
        errors = centred((upload.b[0] + times(upload.a[0], key.s) - Q1 * r[0]) % Q, Q)
        return key, server.results(0, key.public(), upload), errors

    def test_trimming_shows_an_error_as_often_as_the_distance_says(self) -> None:
        """E|E| / (q₁·2^f): how often the top bits of H − mask differ from those without E."""
        bits = 118
        _, result, errors = self.run(Switching(64, 64), bits)
        without = (result.h - (errors << bits) // Q1) % T
        shown = np.mean((result.h >> F) != (without >> F))
        expected = np.mean(np.abs(errors)) * 2.0**bits / (Q1 * 2.0**F)
        assert shown == pytest.approx(expected, rel=0.25)

    def test_a_flood_shows_an_error_as_often_as_the_distance_says(self) -> None:
        """E|E| / (q₁/2): how often E and the flood together are where no flood is."""
        bits = 77
        key, result, errors = self.run(EXACT, bits)
        assert result.left is not None
        prime = PRIMES[0]
        both = np.array([centred((h + times(g, key.s)) % prime, prime) for h, g in zip(*result.left, strict=True)])
        shown = np.mean(np.abs(both) > prime // 4)
        expected = np.mean(np.abs(errors)) * 2.0**bits / (Q1 / 2)
        assert shown == pytest.approx(expected, rel=0.25)


class TestMarks:
    """A client that crashes around a message, in the world that tests/parties/test_once.py is about."""

    def indices_after_a_crash(self, *, marked_first: bool) -> None:
        """A message of five indices whose sender ends at its first write, and one of the process that follows."""
        faults = Faults()
        world = World(lambda: Memory(faults), faults, anchored=True, sealed=True, ahead=8)
        world.prepare(60)
        client = world.sides["client"]

        def sent(party: Party) -> list[Any]:
            """A mark whose write comes after the message."""
            (name,) = party.batches
            world.messages += 1
            client.wire.note([(name, 0, 5)], world.messages)
            return party.take(5)

        faults.left = 0
        if marked_first:
            world.request(5)
        else:
            world.attempt(client, sent)
        assert world.events["crashes"] == 1
        world.request(5)

    def test_a_mark_that_is_written_after_the_message_uses_indices_twice(self) -> None:
        with pytest.raises(UsedTwice):
            self.indices_after_a_crash(marked_first=False)
        self.indices_after_a_crash(marked_first=True)
