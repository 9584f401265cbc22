"""Which backend ``auto`` means, on the plugins that are installed here and on some of them."""

from __future__ import annotations

import pytest

from helora_core import selection
from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.errors import BackendUnavailable
from helora_core.manager import PluginManager
from helora_core.selection import PREFERENCE, select_backend

BOTH, EMULATION, NONE = "numpy,tenseal", "numpy", ""


def manager(plugins: str) -> PluginManager:
    return PluginManager.discover(environ={"HELORA_PLUGINS": plugins})


def plan(**options: object) -> Plan:
    packing = manager(NONE).load_packing("zero_moai")
    return compile_plan(ModuleShape.parse("64:64:4"), packing, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("wanted", [None, "auto"])
def test_auto_is_the_first_that_encrypts_and_can_be_used(wanted: str | None) -> None:
    chosen = select_backend(manager(BOTH), wanted, environ={})
    assert (chosen.name, chosen.secure) == ("tenseal", True)
    before = PREFERENCE[: PREFERENCE.index("tenseal")]
    assert chosen.skipped == tuple((name, "not installed") for name in before)


def test_an_emulation_is_not_chosen_unless_that_is_allowed() -> None:
    with pytest.raises(BackendUnavailable, match="numpy: it encrypts nothing") as caught:
        select_backend(manager(EMULATION), environ={})
    assert "--allow-emulation" in caught.value.hint
    chosen = select_backend(manager(EMULATION), allow_emulation=True, environ={})
    assert (chosen.name, chosen.secure) == ("numpy", False)
    assert dict(chosen.skipped).keys() == set(PREFERENCE)


def test_an_emulation_comes_last_even_where_it_is_allowed() -> None:
    assert select_backend(manager(BOTH), allow_emulation=True, environ={}).name == "tenseal"


def test_backends_that_nobody_ranked_come_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "PREFERENCE", ())
    chosen = select_backend(manager(BOTH), allow_emulation=True, environ={})
    assert (chosen.name, chosen.secure, chosen.skipped) == ("tenseal", True, ())


def test_where_there_is_no_backend_every_name_tried_is_in_the_refusal() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        select_backend(manager(NONE), allow_emulation=True, environ={})
    for name in PREFERENCE:
        assert f"{name}: not installed" in caught.value.message


def test_a_name_is_taken_as_it_is() -> None:
    chosen = select_backend(manager(BOTH), "numpy", environ={"HELORA_BACKEND": "tenseal"})
    assert (chosen.name, chosen.secure, chosen.skipped) == ("numpy", False, ())
    with pytest.raises(BackendUnavailable, match="'tenseal'"):
        select_backend(manager(EMULATION), "tenseal", allow_emulation=True, environ={})


def test_the_environment_stands_in_for_no_name_only() -> None:
    environ = {"HELORA_BACKEND": "numpy"}
    assert select_backend(manager(BOTH), environ=environ).name == "numpy"
    assert select_backend(manager(BOTH), "auto", environ=environ).name == "tenseal"


def test_a_backend_that_cannot_run_the_plans_is_passed_over_with_the_reason() -> None:
    """SEAL has no ring of 65536."""
    large = plan(ring_degree=65536)
    chosen = select_backend(manager(BOTH), plans=[plan(), large], allow_emulation=True, environ={})
    assert chosen.name == "numpy"
    assert "65536" in dict(chosen.skipped)["tenseal"]
    assert select_backend(manager(BOTH), plans=[plan()], environ={}).name == "tenseal"
