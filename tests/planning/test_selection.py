"""Which backend ``auto`` means, on the plugins that are installed here and on some of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.errors import BackendUnavailable
from helora_core.host.manager import PluginManager
from helora_core.host.records import RegisteredBackend
from helora_core.planning.selection import select_backend

BOTH, EMULATION, NONE = "numpy,tenseal", "numpy", ""


def manager(plugins: str) -> PluginManager:
    return PluginManager.discover(environ={"HELORA_PLUGINS": plugins})


def plan(**options: object) -> Plan:
    packing = manager(NONE).load_packing("zero_moai")
    return compile_plan(ModuleShape.parse("64:64:4"), packing, **options, private_weights=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("wanted", [None, "auto"])
def test_auto_is_the_first_that_encrypts_and_can_be_used(wanted: str | None) -> None:
    chosen = select_backend(manager(BOTH), wanted, environ={})
    assert (chosen.name, chosen.secure, chosen.skipped) == ("tenseal", True, ())


def test_an_emulation_is_not_chosen_unless_that_is_allowed() -> None:
    with pytest.raises(BackendUnavailable, match="numpy: it encrypts nothing") as caught:
        select_backend(manager(EMULATION), environ={})
    assert "--allow-emulation" in caught.value.hint
    chosen = select_backend(manager(EMULATION), allow_emulation=True, environ={})
    assert (chosen.name, chosen.secure) == ("numpy", False)
    assert chosen.skipped == ()


def test_an_emulation_comes_last_even_where_it_is_allowed() -> None:
    assert select_backend(manager(BOTH), allow_emulation=True, environ={}).name == "tenseal"


def registering(found: PluginManager, of: str, **changes: Any) -> None:
    """Register a backend once more, with another spec."""
    registered = found.backends()[of]
    spec = dataclasses.replace(registered.spec, **changes)
    found._backends[spec.name] = RegisteredBackend(registered.origin, spec, registered.report)


@pytest.mark.parametrize("name", ["cupy", "rns", "openfhe", "seal", "aaa"])
@pytest.mark.parametrize("preference", [0, 10**9])
def test_an_emulation_is_one_whatever_it_is_called_and_prefers(name: str, preference: int) -> None:
    found = manager(BOTH)
    registering(found, "numpy", name=name, preference=preference)
    assert select_backend(found, environ={}).name == "tenseal"
    assert select_backend(found, allow_emulation=True, environ={}).name == "tenseal"
    assert not select_backend(found, name, environ={}).secure
    found = manager(EMULATION)
    registering(found, "numpy", name=name, preference=preference)
    with pytest.raises(BackendUnavailable, match=f"{name}: it encrypts nothing"):
        select_backend(found, environ={})
    assert not select_backend(found, allow_emulation=True, environ={}).secure


def test_the_highest_preference_comes_first_and_equals_by_name() -> None:
    found = manager(BOTH)
    registering(found, "tenseal", name="zeal", preference=31)
    assert select_backend(found, environ={}).name == "zeal"
    registering(found, "tenseal", name="zeal", preference=30)
    assert select_backend(found, environ={}).name == "tenseal"
    registering(found, "tenseal", name="aaa", preference=0)
    assert select_backend(found, environ={}).name == "tenseal"


def test_what_is_preferred_and_cannot_be_used_is_named_with_the_reason() -> None:
    found = manager(BOTH)
    registering(found, "tenseal", name="absent", preference=99, availability=lambda: "it has no device")
    chosen = select_backend(found, environ={})
    assert (chosen.name, chosen.skipped) == ("tenseal", (("absent", "it has no device"),))


def test_where_there_is_no_backend_the_refusal_says_so() -> None:
    with pytest.raises(BackendUnavailable, match="none is installed"):
        select_backend(manager(NONE), allow_emulation=True, environ={})


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
