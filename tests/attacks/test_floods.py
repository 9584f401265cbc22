"""Floods and masks hide what they are to hide: in all packings, for all kinds of weights, to the distance asked for."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from attackers.hiding import SHAPES, distances
from attackers.measures import OfSlots
from attackers.modules import module_of
from attackers.service import Service, plan_of

from helora_core.backend.coefficient_noise import normal_in_slots
from helora_core.backend.embedding import coefficients_to_slots
from helora_core.backend.protocol import Backend
from helora_core.compiler.request import BackendTraits
from tests.registered import online_packings


def test_every_packing_is_among_them() -> None:
    assert set(SHAPES) == set(online_packings())


@pytest.mark.parametrize("packing", SHAPES)
def test_noise_is_hidden_to_two_to_the_minus_forty_whatever_the_weights(tenseal: Backend, packing: str) -> None:
    """The noise of x = 0, as the server would send it, against the flood."""
    found, refused = distances(tenseal, packing)
    print(packing, {kind: round(bits, 1) for kind, bits in found.items()}, "refused:", refused)
    assert max(found.values()) <= -40
    assert len(refused) < 2


def test_the_same_holds_for_cpmm_in_coefficients(tenseal: Backend) -> None:
    """Rows of ``down`` that are alike are rounded apart: equal sums would be rescaled with equal errors."""
    traits = BackendTraits.of([tenseal.capabilities])
    found, refused = distances(tenseal, "cpmm", "36:4:32", traits)
    print({kind: round(bits, 1) for kind, bits in found.items()}, "refused:", refused)
    assert max(found.values()) <= -40
    assert not refused


def test_what_is_asked_is_done(tenseal: Backend) -> None:
    """Floods and masks for 2^-60 are measured to be 2^20 times those for 2^-40."""
    sizes = []
    for bits in (40, 60):
        plan = plan_of("rank_bsgs", "32:24:4", sanitize_bits=bits)
        service = Service.of(tenseal, module_of("orthogonal", plan.shape), plan)
        battery = OfSlots(service)
        battery.prepare()
        measured = {each.name: each.statistic for each in battery.measure(service)}
        sizes.append([measured[name] for name in measured if name.startswith("log2 of the distance")])
        print(bits, measured)
        assert max(sizes[-1]) <= -bits
    differences = np.array(sizes[0]) - np.array(sizes[1])
    # Other scales, and perhaps another ring: what is hidden is not the same, and a flood is a power of two.
    assert np.all(np.abs(differences - 20) < 2.5)


@pytest.mark.parametrize("packing", ["rank_bsgs", "cheetah_two_round", "cpmm"])
def test_sizes_grow_by_what_is_asked_for(packing: str) -> None:
    """For one and the same program and scales."""
    plan = plan_of(packing, SHAPES[packing])
    ops = tuple(msgspec.structs.replace(op, bits=60) if op.bits == 40 else op for op in plan.program.ops)
    more = replace(plan, program=msgspec.structs.replace(plan.program, ops=ops))
    for name in ("flood_bits", "mask_bits"):
        fewer, larger = getattr(plan.precision(), name), getattr(more.precision(), name)
        assert {output: bits + 20 for output, bits in fewer.items()} == larger


def test_masks_leave_no_bit_below_those_of_doubles() -> None:
    """A mask is far larger than a flood, and a double has 53 bits: those below them are random too."""
    bits, ring_degree = 150, 4096
    mask = normal_in_slots(ring_degree, bits, np.ones(ring_degree // 2, dtype=bool), 5).exact()
    # A coefficient is of 2^(bits − 5.5), and the 53rd bit below its first stands above this one.
    low = bits - 72
    parts = np.array([(each % (1 << low)) / (1 << low) for each in mask])
    assert abs(float(np.mean(parts)) - 0.5) < 5 / math.sqrt(12 * parts.size)
    assert len(set(parts)) > 0.99 * parts.size


def test_those_bits_stay_out_of_what_is_read() -> None:
    """They move what may be read by no more than doubles do."""
    bits, ring_degree = 80, 4096
    readable = np.ones(ring_degree // 2, dtype=bool)
    limbs = normal_in_slots(ring_degree, bits, readable, 5).limbs
    slots = sum(coefficients_to_slots(limb * 2.0 ** (48 * j), ring_degree) for j, limb in enumerate(limbs))
    assert float(np.std(np.real(slots))) < 2.0 ** (bits - 50)
    assert abs(math.log2(float(np.std(np.imag(slots)))) - bits) < 0.1
