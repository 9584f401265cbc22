"""A backend on a device is taken where it is predicted to be faster there, and what it was passed over for is said."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.request import PlanRequest
from helora_core.errors import CorruptPayload
from helora_core.host.manager import PluginManager
from helora_core.host.records import RegisteredBackend
from helora_core.planning import compiling
from helora_core.planning.profile_files import load_profile, profile_path, write_profile
from tests.planning.conftest import OPEN, MakeProfile, times

CARD = "NVIDIA H100 80GB HBM3"


def with_a_card(**changes: Any) -> PluginManager:
    """The plugins of two libraries, one of them as if it ran on a card and were preferred."""
    found = PluginManager.discover(environ={"HELORA_PLUGINS": "core,tenseal,rns"})
    registered = found.backends()["tenseal"]
    said = {"name": "cupy", "preference": 50, "device": lambda: CARD, "availability": lambda: None, **changes}
    spec = dataclasses.replace(registered.spec, **said)
    found._backends["cupy"] = RegisteredBackend(registered.origin, spec, registered.report)
    return found


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HELORA_PROFILES", str(tmp_path))
    return tmp_path


def calibrate(make_profile: MakeProfile, backend: str, device: str = "", **faster: float) -> None:
    profile = make_profile(time=times(**faster))
    where = msgspec.structs.replace(profile.provenance, backend=backend, device=device)
    write_profile(msgspec.structs.replace(profile, provenance=where), profile_path(backend, device=device))


def chosen(manager: PluginManager, monkeypatch: pytest.MonkeyPatch, **wishes: Any) -> tuple[str | None, dict[str, str]]:
    monkeypatch.setattr(compiling, "get_manager", lambda: manager)
    shape = ModuleShape.parse("64:64:4")
    request = PlanRequest(**{"shape": shape, "tokens": (4,), "constraints": OPEN, "packing": "zero_moai", **wishes})
    requests, over = compiling.on_best_machine([request])
    return requests[0].backend, dict(over)


def test_the_card_is_taken_where_the_plan_is_predicted_faster_on_it(
    profiles: Path, make_profile: MakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate(make_profile, "cupy", CARD)
    calibrate(make_profile, "rns", multiply_plain=1.0)
    assert chosen(with_a_card(), monkeypatch) == ("cupy", {})


def test_transfers_are_part_of_the_price(
    profiles: Path, make_profile: MakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faster products do not make up for slow ways in and out."""
    calibrate(make_profile, "cupy", CARD, server_receive=500.0, server_send=500.0)
    calibrate(make_profile, "rns", multiply_plain=1.0)
    name, over = chosen(with_a_card(), monkeypatch)
    assert name == "rns"
    assert "sending included; rns" in over["cupy"]


def test_a_card_that_was_not_calibrated_is_passed_over_for_a_processor_that_was(
    profiles: Path, make_profile: MakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrate(make_profile, "rns", multiply_plain=1.0)
    calibrate(make_profile, "cupy", "another card")
    name, over = chosen(with_a_card(), monkeypatch)
    assert name == "rns"
    assert over["cupy"] == (
        f"not calibrated on {CARD}, so nothing says that it is faster: helora calibrate --backend cupy"
    )


def test_where_nothing_is_calibrated_the_preference_decides(profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(with_a_card(), monkeypatch) == (None, {})
    assert list(compiling.machines(PlanRequest(shape=ModuleShape.parse("64:64:4")))) == ["cupy"]


@pytest.mark.parametrize(
    ("says", "reason"),
    [("availability", "no CUDA driver"), ("only_by_name", "it is for tests")],
)
def test_a_card_that_must_not_be_taken_is_not_even_where_it_would_be_faster(
    profiles: Path, make_profile: MakeProfile, monkeypatch: pytest.MonkeyPatch, says: str, reason: str
) -> None:
    calibrate(make_profile, "cupy", CARD)
    calibrate(make_profile, "cupy")
    calibrate(make_profile, "rns", multiply_plain=1.0)
    calibrate(make_profile, "tenseal", multiply_plain=9.0)
    name, over = chosen(with_a_card(**{says: lambda: reason}), monkeypatch, tokens=(4, 8))
    assert (name, over) == ("rns", {"cupy": reason})


def test_a_profile_belongs_to_one_device(profiles: Path, make_profile: MakeProfile) -> None:
    calibrate(make_profile, "cupy", CARD)
    assert profile_path("cupy", device=CARD).name == "cupy@nvidia-h100-80gb-hbm3.json"
    assert load_profile("cupy") is None
    found = load_profile("cupy", device=CARD)
    assert found is not None
    assert found.provenance.device == CARD
    profile_path("cupy", device=CARD).rename(profile_path("cupy"))
    with pytest.raises(CorruptPayload, match="made on NVIDIA H100 80GB HBM3, not on the CPU"):
        load_profile("cupy")
