"""``helora bench lm`` on models of a few thousand numbers: every mode generates what PEFT does, and is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

opened = pytest.importorskip("helora_harness.lm.opened", reason="the harness is installed in a checkout only")

from helora_harness.lm import generating, identity, measuring, over_networks  # noqa: E402
from helora_harness.lm.figures import ONLINE, PLAIN, PRECOMPUTED, Part  # noqa: E402
from helora_harness.lm.networks import Network  # noqa: E402
from helora_transformers.tiny import adapted, base_model, prompt  # noqa: E402

MODES = (PLAIN, ONLINE, PRECOMPUTED)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base model, and an adapter of its q and v."""
    base, adapter = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("adapter")
    adapted("llama", adapter, targets=["q_proj", "v_proj"])
    base_model("llama").save_pretrained(base)
    return base, adapter


@pytest.fixture(scope="module", params=[opened.TCP, opened.IN_PROCESS])
def modes(request: pytest.FixtureRequest, folders: tuple[Path, Path]) -> Iterator[list[Any]]:
    """The model in every mode."""
    setting = opened.Setting(*folders, "rns", link=request.param, ahead=400)
    with ExitStack() as stack:
        model = opened.base_model(folders[0])
        yield [stack.enter_context(opened.opened(model, mode, setting)) for mode in MODES]


def test_every_mode_is_measured_for_the_same_work(modes: list[Any]) -> None:
    rows = generating.measured(modes, sequences=2, prompt=3, tokens=4, rounds=2)
    assert [row.mode for row in rows] == list(MODES)
    for row in rows:
        assert (row.sequences, row.steps) == (2, 2 * 3)
        assert 0 < row.least_ms <= row.step_ms
        assert row.prefill_ms > 0
    plain, online, precomputed = rows
    assert plain.bytes_up == 0 < precomputed.bytes_up < online.bytes_up
    assert online.phases.server > 0
    spent = sum(getattr(online.phases, name) for name in online.phases.__struct_fields__)
    assert spent > 0


def test_what_a_mode_needs_once_is_stated(modes: list[Any]) -> None:
    online, precomputed = (each.once() for each in modes[1:])
    assert online.keys_bytes > precomputed.keys_bytes > 0
    assert online.weights_bytes > 0 == online.ahead_up
    assert precomputed.ahead_up > 0 < precomputed.ahead_tokens
    assert precomputed.assumes == ("honest keys",)
    in_a_process = modes[1].server is not None
    assert ((online.server_bytes or 0) > 0) == in_a_process
    assert (opened.bytes_of_another_client(modes[1]) is not None) == in_a_process
    assert opened.bytes_of_another_client(modes[2]) is None


def test_tokens_are_those_of_peft_and_others_are_found(modes: list[Any]) -> None:
    prompts = prompt(5, 3)
    assert [(row.mode, row.identical, row.prompts) for row in identity.compared(modes, prompts, 6)] == [
        (mode, 2, 2) for mode in MODES[1:]
    ]
    with modes[1].private.disable_adapter():
        online, precomputed = identity.compared(modes, prompts, 6)
    assert online.identical < precomputed.identical == 2
    (row, at), *_ = online.first_different
    assert row in (0, 1)
    assert 0 <= at < 6


def test_each_packing_goes_through_each_network(folders: tuple[Path, Path]) -> None:
    networks = (Network(0, None), Network(20, 1000))
    rows = over_networks.measured(
        opened.base_model(folders[0]),
        opened.Setting(*folders, "rns", ahead=100),
        networks,
        profile=None,
        base_ms=1.0,
        tokens=3,
        tell=lambda line: None,
    )
    assert [(row.rtt_ms, row.packing) for row in rows] == [
        (network.rtt_ms, packing) for network in networks for packing in over_networks.PACKINGS
    ]
    near, far = rows[:3], rows[3:]
    for fast, slow in zip(near, far, strict=True):
        assert not slow.refused
        assert slow.measured_ms > slow.round_trips * 20  # nothing overtakes the relay
        assert slow.bytes_up == fast.bytes_up
    trips = {row.packing: row.round_trips for row in near}
    assert trips == {"rank_bsgs": 2, "cheetah_two_round": 4, PRECOMPUTED: 2}


def test_a_backend_that_cannot_is_a_row_with_the_reason(folders: tuple[Path, Path]) -> None:
    rows = over_networks.measured(
        opened.base_model(folders[0]), opened.Setting(*folders, "tenseal", ahead=100), (Network(0, None),),
        profile=None, base_ms=1.0, tokens=2, packings=(PRECOMPUTED,), tell=lambda line: None,
    )  # fmt: skip
    (row,) = rows
    assert row.refused == (
        "bench lm: the server ended without serving: Backend tenseal cannot run plans ahead of time, as precomputed "
        f"{row.refused.partition('as precomputed ')[2].partition(' ')[0]} does."
    )


def test_parts_are_given_as_soon_as_they_are_done(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "encoded", lambda base, count: prompt(*range(2, 2 + count)))
    wanted = measuring.Wanted(kinds=("generation", "identity"), base=folders[0], adapter=folders[1], ahead=400)
    parts: list[Part] = list(measuring.measured(wanted.quick(), lambda line: None))
    assert [part.kind for part in parts] == ["generation", "identity"]
    assert all(part.conditions.packages for part in parts)
    assert {row.sequences for row in parts[0].generation} == {1, 4}
    assert all(row.identical == row.prompts == 2 for row in parts[1].identity)
