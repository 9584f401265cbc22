"""What a server offers, the plans that a client makes of it, and the keys that it then sends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.errors import CorruptPayload, ForeignCiphertext, HeloraError, VersionMismatch
from helora_core.params.presets import FAST
from helora_core.parties.client import Client
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.offer import Offer, read_offer
from tests.parties.conftest import compiled, x_of


class TestOffer:
    def test_it_holds_no_weight_and_no_program_that_can_be_made(self, lora: Any) -> None:
        offer = read_offer(lora.server().offer())
        assert {each.name for each in offer.modules} == {each.name for each in lora.modules}
        alive = {each.plan.digest for each in lora.modules if not each.plan.is_zero}
        assert all(recipe.program is None for recipe in offer.plans if recipe.digest in alive)
        assert len(lora.server().offer()) < 8_000

    def test_the_client_makes_the_same_plans(self, lora: Any) -> None:
        client = lora.client(lora.server().offer())
        for each in lora.modules:
            assert client.plans[each.name].digest == each.plan.digest
            assert client.plans[each.name].exponent == each.plan.exponent

    @pytest.mark.filterwarnings("ignore:Generating overly large repr")
    @given(data=st.data())
    def test_whatever_is_changed_is_refused_or_makes_the_same_plans(self, lora: Any, data: st.DataObject) -> None:
        offer = bytearray(lora.server().offer())
        place = data.draw(st.integers(0, len(offer) - 1))
        offer[place] = data.draw(st.integers(32, 126))
        try:
            client = Client(bytes(offer))
        except HeloraError:
            return
        assert {plan.digest for plan in client.plans.values()} == {each.plan.digest for each in lora.modules}

    def test_another_schema_or_library_is_named(self, lora: Any, refused: Any) -> None:
        offer = msgspec.json.decode(lora.server().offer(), type=dict[str, Any])
        with refused(VersionMismatch, "schema 99"):
            Client(msgspec.json.encode(offer | {"schema": 99}))
        with refused(VersionMismatch, "elsewhere 1.0"):
            Client(msgspec.json.encode(offer | {"library": "elsewhere 1.0"}))
        with refused(CorruptPayload, "Offer"):
            Client(b"{}")
        recipe = offer["plans"][0] | {"packing_version": 77}
        with refused(VersionMismatch, "version 77"):
            Client(msgspec.json.encode(offer | {"plans": [recipe, *offer["plans"][1:]]}))
        assert isinstance(read_offer(msgspec.json.encode(offer)), Offer)


class TestKeys:
    def test_keys_for_another_offer_are_refused(self, lora: Any, refused: Any) -> None:
        other = CompiledLoRA((compiled("m", "rank_bsgs", 1, params=FAST),), lora.backend, secure=False)
        server = lora.server()
        keys = other.client(other.server().offer()).evaluation_keys()
        with refused(CorruptPayload):
            server.open(keys)
        with refused(CorruptPayload, "not the result of Client.evaluation_keys"):
            server.open(b"nonsense")

    def test_messages_of_another_client_are_foreign(self, lora: Any, refused: Any) -> None:
        server = lora.server()
        one, other = (lora.client(server.offer()) for _ in range(2))
        sessions = [server.open(each.evaluation_keys()) for each in (one, other)]
        message = one.begin("q_proj", x_of(1)).message()
        with refused(ForeignCiphertext, "other keys"):
            sessions[1].answer(message)
        assert sessions[1].requests == 0
