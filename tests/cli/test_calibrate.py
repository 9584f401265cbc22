"""``helora calibrate``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_core.compiler.ahead import chain_ahead
from helora_core.params.ckks import CKKSParams
from helora_core.planning.profile_files import load_profile, read_profile

QUICK = ("--backend", "numpy", "--ring", "4096", "--rounds", "1")


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "profiles"
    monkeypatch.setenv("HELORA_PROFILES", str(folder))
    return folder


def test_the_profile_is_where_helora_looks_for_it(helora: Callable[..., Any], profiles: Path) -> None:
    shown = helora("calibrate", *QUICK)
    assert shown.exit_code == 0, shown.output
    profile = load_profile("numpy")
    assert profile is not None
    assert {chain.ring_degree for chain in profile.chains} == {4096}
    assert profile.provenance.rounds == 1
    assert f"wrote {profiles / 'numpy.json'}" in shown.stdout


def test_by_default_that_is_among_the_users_data(
    helora: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert helora("calibrate", *QUICK).exit_code == 0
    assert (tmp_path / "data" / "helora" / "profiles" / "numpy.json").is_file()


def test_people_see_chains_levels_and_that_an_emulation_encrypts_nothing(
    helora: Callable[..., Any], profiles: Path
) -> None:
    shown = helora("calibrate", *QUICK)
    assert "rotate further" in shown.stdout
    assert "43,40|20" in shown.stdout
    assert "ahead encrypt" in shown.stdout
    assert [line.split()[:2] for line in shown.stdout.splitlines()].count(["4096", "41+64"]) == 1
    assert "not the times of encryption" in shown.stderr


def test_it_goes_where_it_is_asked_to(helora_json: Callable[..., Any], profiles: Path, tmp_path: Path) -> None:
    document = helora_json("calibrate", *QUICK, "--output", tmp_path / "p.json")
    assert document["output"] == str(tmp_path / "p.json")
    assert document["secure"] is False
    assert len(read_profile(tmp_path / "p.json").chains) == len(document["chains"]) == 3
    assert not profiles.exists()


def test_the_library_and_its_version_are_on_record(helora_json: Callable[..., Any], profiles: Path) -> None:
    import numpy as np

    provenance = helora_json("calibrate", *QUICK)["provenance"]
    assert (provenance["backend"], provenance["library_version"]) == ("numpy", np.__version__)


def test_every_key_and_operation_is_documented(
    helora_json: Any, documented: Any, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = CKKSParams(ring_degree=8192, data_bits=(60, 40), special_bits=(60,), scale_bits=40)  # rotates and masks
    monkeypatch.setattr("helora_core.planning.chains.chains_for", lambda *_, **__: (chain, chain_ahead(8192)))
    document = helora_json("calibrate", *QUICK)
    section = "helora calibrate"
    assert documented(section) == set(document)
    assert documented(section, "key of `provenance`") == set(document["provenance"])
    assert documented(section, "key of `chains`") == set(document["chains"][0])
    figures = [figure for chain in document["chains"] for figure in chain["figures"]]
    assert documented(section, "key of `figures`") == set(figures[0])
    assert documented(section, "operation") == {figure["operation"] for figure in figures}


def test_the_default_of_rounds_is_that_of_the_function() -> None:
    from helora_core.cli.calibrate import calibrate
    from helora_core.planning.calibrate import DEFAULT_ROUNDS

    (rounds,) = (option for option in calibrate.params if option.name == "rounds")
    assert rounds.default == DEFAULT_ROUNDS


def test_a_setting_for_the_ring_of_plans_does_not_restrict_it(
    helora: Callable[..., Any], profiles: Path, tmp_path: Path
) -> None:
    """``ring`` in helora.toml is one ring; here several may be asked for, and all are by default."""
    (tmp_path / "helora.toml").write_text("ring = 8192\n", encoding="utf-8")
    assert helora("calibrate", *QUICK).exit_code == 0
    profile = load_profile("numpy")
    assert profile is not None
    assert {chain.ring_degree for chain in profile.chains} == {4096}


class TestRefusals:
    def test_a_backend_must_be_there(self, refusal: Callable[..., Any], profiles: Path) -> None:
        assert refusal("calibrate", "--backend", "nope")["code"] == "backend-unavailable"

    def test_a_ring_without_a_secure_chain(self, refusal: Callable[..., Any], profiles: Path) -> None:
        assert refusal("calibrate", "--backend", "numpy", "--ring", "1024")["code"] == "insecure-parameters"

    def test_an_output_that_cannot_be_written_before_the_work(
        self, refusal: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import helora_core.planning.calibrate as module

        monkeypatch.setattr(module, "calibrate", lambda *_, **__: pytest.fail("it was timed all the same"))
        error = refusal("calibrate", *QUICK, "--output", tmp_path / "missing" / "p.json")
        assert error["code"] == "invalid-input"

    def test_no_rounds_are_a_wrong_command_line(self, helora: Callable[..., Any]) -> None:
        assert helora("calibrate", "--backend", "numpy", "--rounds", "0").exit_code == 2
