"""The strict default: what shows weights to the key holder is refused, with what does not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from helora_core.errors import LeakageRefused
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import ModulusUse
from helora_core.privacy.leakage import Leakage, LeakageClass
from helora_core.privacy.policy import keeps_weights_private, require_private_weights, settled_sanitize_bits

Refused = Callable[..., AbstractContextManager[None]]

PRIVATE = {LeakageClass.NOTHING, LeakageClass.MASKED_Z}


def leakage(shows: LeakageClass, *, needs_sanitize: bool = True) -> Leakage:
    return Leakage(key_holder=shows, needs_sanitize=needs_sanitize, explanation="All of it is shown.")


@pytest.mark.parametrize("shows", list(LeakageClass))
def test_weights_are_private_if_delta_alone_or_a_uniform_mask_shows(shows: LeakageClass) -> None:
    assert keeps_weights_private(leakage(shows)) == (shows in PRIVATE)


@pytest.mark.parametrize("sanitize_bits", [None, 0, 40])
@pytest.mark.parametrize("shows", sorted(set(LeakageClass) - PRIVATE))
def test_what_shows_more_is_refused_however_it_is_sanitised(
    refused: Refused, shows: LeakageClass, sanitize_bits: int | None
) -> None:
    with refused(LeakageRefused, "Packing p ", "All of it is shown.", hint="Use a or b; or"):
        require_private_weights("p", leakage(shows), sanitize_bits=sanitize_bits, qualifying=["a", "b"])


@pytest.mark.parametrize("shows", sorted(PRIVATE))
def test_what_shows_nothing_is_refused_as_long_as_it_is_not_sanitised(refused: Refused, shows: LeakageClass) -> None:
    for sanitize_bits in (None, 0):
        with refused(LeakageRefused, "Packing p", "not sanitised", hint="--sanitize 40"):
            require_private_weights("p", leakage(shows), sanitize_bits=sanitize_bits, qualifying=["p"])
    require_private_weights("p", leakage(shows), sanitize_bits=1, qualifying=["p"])


def test_what_holds_bare_need_not_be_sanitised() -> None:
    bare = leakage(LeakageClass.NOTHING, needs_sanitize=False)
    require_private_weights("p", bare, sanitize_bits=None, qualifying=["p"])


@pytest.mark.parametrize("private", [True, False])
def test_private_weights_take_40_bits_unless_another_distance_is_asked_for(private: bool) -> None:
    asked = {bits: settled_sanitize_bits(private, bits) for bits in (None, 0, 1, 80)}
    assert asked == {None: 40 if private else None, 0: None, 1: 1, 80: 80}


def test_every_refusal_offers_the_way_out(refused: Refused) -> None:
    for shows in LeakageClass:
        with refused(LeakageRefused, hint="--no-private-weights"):
            require_private_weights("p", leakage(shows), sanitize_bits=None, qualifying=["q"])


def test_packings_whose_client_needs_the_adapter_never_qualify() -> None:
    """It owns the adapter then; and the others all say that they want to be sanitised, or sanitise in any case."""
    manager = get_manager()
    for name in manager.packings():
        packing = manager.load_packing(name)
        assert packing.client_finishes != keeps_weights_private(packing.leakage)
        if keeps_weights_private(packing.leakage):
            assert packing.leakage.needs_sanitize or packing.modulus_use is ModulusUse.CORRELATED
