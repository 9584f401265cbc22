"""One set of cells: every packing and backend is in it, and what cannot run here is said."""

from __future__ import annotations

import pytest

from helora_core.host.manager import get_manager
from helora_harness import cases
from tests.registered import online_packings, packings_ahead


def test_every_packing_of_this_repository_is_counted_on_every_backend_that_can() -> None:
    core = {name for name, known in get_manager().packings().items() if known.origin.distribution == "helora-core"}
    counted = {(cell.backend, cell.packing) for cell in cases.preset("ci")}
    online = {(backend, packing) for backend in cases.BACKENDS for packing in core & set(online_packings())}
    ahead = {(backend, packing) for backend in cases.AHEAD_BACKENDS for packing in core & set(packings_ahead())}
    assert counted == online | ahead


def test_every_backend_that_can_run_plans_ahead_of_time_is_counted_for_them() -> None:
    usable = [name for name in cases.BACKENDS if not cases.absent([name])]
    able = {name for name in usable if get_manager().load_backend(name).capabilities.correlations}
    assert able == set(cases.AHEAD_BACKENDS) & set(usable)


def test_the_full_preset_has_all_cells_once() -> None:
    full = cases.preset("full")
    assert len(set(full)) == len(full)
    assert all(set(cases.preset(name)) <= set(full) for name in cases.PRESETS)


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(cases.UnknownPreset) as caught:
        cases.preset("everything")
    assert "ci, default, llm, full" in caught.value.hint


def test_what_cannot_be_used_here_has_a_reason() -> None:
    assert cases.absent(["numpy"]) == {}
    assert cases.absent(["numpy", "abacus"]) == {"abacus": "no installed plugin offers it"}
