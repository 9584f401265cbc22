"""Profiles: what they answer, what they refuse to answer, and their files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helora_core.compiler.ahead import chain_ahead
from helora_core.errors import CorruptPayload, InvalidInput, ProfileMissing
from helora_core.params.ckks import CKKSParams
from helora_core.params.presets import FAST
from helora_core.planning.profile import OLDEST_SCHEMA, SCHEMA, ChainFigures, Figure, Profile, Provenance
from helora_core.planning.profile_files import load_profile, profile_path, read_profile, target_path, write_profile


def figures(median_ns: float, levels: int = 3) -> tuple[Figure, ...]:
    return tuple(
        Figure(operation="rotate", level=level, median_ns=median_ns + level, minimum_ns=1.0, samples=2)
        for level in range(levels)
    )


def chain(*data_bits: int, special: tuple[int, ...] = (60,), ring: int = 8192, median_ns: float = 10.0) -> ChainFigures:
    return ChainFigures(
        ring_degree=ring,
        data_bits=data_bits,
        special_bits=special,
        figures=figures(median_ns, len(data_bits)),
    )


def params(*data_bits: int, special: tuple[int, ...] = (60,), ring: int = 8192) -> CKKSParams:
    return CKKSParams(ring_degree=ring, data_bits=data_bits, special_bits=special, scale_bits=30)


def profile(*chains: ChainFigures) -> Profile:
    return Profile(provenance=Provenance.here("numpy", library="numpy", library_version="2.0", rounds=2), chains=chains)


class TestFigures:
    def test_a_figure_is_found_by_operation_chain_and_level(self) -> None:
        found = profile(chain(60, 40, 40)).figure("rotate", FAST, 1)
        assert (found.operation, found.level, found.median_ns) == ("rotate", 1, 11.0)

    def test_without_a_level_it_is_the_highest(self) -> None:
        assert profile(chain(60, 40, 40)).figure("rotate", FAST).level == 2

    def test_any_chain_of_as_many_primes_will_do(self) -> None:
        assert profile(chain(60, 40, 40)).figure("rotate", params(55, 36, 33, special=(55,)), 0).median_ns == 10.0

    @pytest.mark.parametrize(("bits", "median_ns"), [((60, 40, 40), 10.0), ((53, 52, 53), 20.0), ((55, 50, 50), 20.0)])
    def test_of_several_such_chains_it_is_the_likest(self, bits: tuple[int, ...], median_ns: float) -> None:
        both = profile(chain(60, 40, 40), chain(53, 52, 53, special=(53,), median_ns=20.0))
        assert both.figure("rotate", params(*bits), 0).median_ns == median_ns

    @pytest.mark.parametrize(
        "other",
        [
            params(60, 40),
            params(60, 40, 40, 40),
            params(60, 40, 40, special=()),
            params(60, 40, 40, special=(30, 30)),
            params(60, 40, 40, ring=16384),
        ],
        ids=["fewer primes", "more primes", "no special prime", "two special primes", "another ring"],
    )
    def test_other_chains_are_not_guessed_at(self, other: CKKSParams) -> None:
        with pytest.raises(ProfileMissing) as refused:
            profile(chain(60, 40, 40)).figure("rotate", other, 0)
        n, data, special = other.ring_degree, len(other.data_bits), len(other.special_bits)
        assert f"ring degree {n} with {data} data and {special} special primes" in refused.value.message
        assert "it has ring degree 8192 with 3 data and 1 special primes" in refused.value.message
        assert f"helora calibrate --backend numpy --ring {n}" in refused.value.hint

    def test_a_missing_operation_is_named_with_its_level(self) -> None:
        with pytest.raises(ProfileMissing, match="no time for rescale with 2 primes left"):
            profile(chain(60, 40, 40)).figure("rescale", FAST, 1)


class TestWrapLimb:
    """A chain with a wrap limb is another one, however many primes it has."""

    PLAIN = chain(50, 50, special=())
    AHEAD = msgspec.structs.replace(chain(42, 42, special=(), median_ns=99.0), wrap_bits=64)

    def test_either_is_found_by_its_own_parameters(self) -> None:
        both = profile(self.PLAIN, self.AHEAD)
        assert both.chain(chain_ahead(8192)) == self.AHEAD
        assert both.chain(params(42, 42, special=())) == self.PLAIN

    def test_neither_stands_for_the_other(self) -> None:
        with pytest.raises(ProfileMissing, match="2 data primes and a wrap limb; it has ring"):
            profile(self.PLAIN).chain(chain_ahead(8192))
        with pytest.raises(ProfileMissing, match="it has ring degree 8192 with 2 data primes and a wrap limb"):
            profile(self.AHEAD).chain(params(42, 42, special=()))


class TestProvenance:
    def test_it_names_hardware_and_versions_but_no_host_and_no_path(self) -> None:
        shown = json.dumps(msgspec.to_builtins(Provenance.here("numpy", library="", library_version=None, rounds=1)))
        import platform

        assert platform.node() not in shown or not platform.node()
        assert str(Path.home()) not in shown.replace('"/"', "")
        assert str(Path.cwd()) not in shown

    def test_the_date_is_utc_to_the_second(self) -> None:
        date = Provenance.here("numpy", library="", library_version=None, rounds=1).date
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", date)

    def test_threads_are_those_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert Provenance.here("numpy", library="", library_version=None, rounds=1).threads == "3"

    def test_what_differs_between_two_is_named_but_for_date_and_rounds(self) -> None:
        here = Provenance.here("numpy", library="numpy", library_version="2.0", rounds=1)
        later = msgspec.structs.replace(here, date="2000-01-01T00:00:00Z", rounds=9)
        assert here.differences(later) == ()
        assert here.differences(msgspec.structs.replace(later, cpu="other", cores=99)) == ("cpu", "cores")


class TestFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "numpy.json"
        write_profile(profile(chain(60, 40, 40)), path)
        return path

    def test_what_was_written_is_read(self, path: Path) -> None:
        read = read_profile(path)
        assert read.chains == (chain(60, 40, 40),)
        assert (read.format, read.schema) == ("helora-profile", SCHEMA)

    def test_nothing_else_is_left_in_the_folder(self, path: Path) -> None:
        assert list(path.parent.iterdir()) == [path]

    def changed(self, path: Path, **fields: Any) -> Path:
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | fields), encoding="utf-8")
        return path

    def test_a_newer_schema_is_refused(self, path: Path) -> None:
        """Before its structure is looked at, which this helora cannot know."""
        self.changed(path, schema=SCHEMA + 1, chains="elsewhere")
        with pytest.raises(CorruptPayload, match=f"schema {SCHEMA + 1}") as refused:
            read_profile(path)
        assert refused.value.hint == "Update helora."

    def test_a_profile_from_before_wrap_limbs_is_read(self, path: Path) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        for each in document["chains"]:
            del each["wrap_bits"]
        read = read_profile(self.changed(path, **document | {"schema": OLDEST_SCHEMA}))
        assert read.chains == (chain(60, 40, 40),)
        assert read.figure("rotate", FAST, 1).median_ns == 11.0

    def test_an_older_schema_is_refused(self, path: Path) -> None:
        with pytest.raises(CorruptPayload, match="schema 0") as refused:
            read_profile(self.changed(path, schema=0))
        assert "again" in refused.value.hint

    def test_other_json_is_refused(self, path: Path) -> None:
        path.write_text('{"schema": 1, "chains": []}', encoding="utf-8")
        with pytest.raises(CorruptPayload, match="not a profile"):
            read_profile(path)

    @pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"null", b'{"format": 3}'])
    def test_what_is_no_such_json_is_refused(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(CorruptPayload):
            read_profile(path)

    def test_a_truncated_file_is_refused_wherever_it_ends(self, path: Path) -> None:
        whole = path.read_bytes().rstrip()
        for end in range(0, len(whole), 7):
            path.write_bytes(whole[:end])
            with pytest.raises(CorruptPayload):
                read_profile(path)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("median_ns", -1.0), ("median_ns", None), ("level", -1), ("samples", 0), ("operation", 3)],
    )
    def test_figures_that_make_no_sense_are_refused(self, path: Path, field: str, value: object) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        document["chains"][0]["figures"][1][field] = value
        with pytest.raises(CorruptPayload, match=field):
            read_profile(self.changed(path, **document))

    def test_a_file_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="cannot be read"):
            read_profile(tmp_path / "none.json")


class TestPlace:
    def test_it_is_among_the_users_data(self, tmp_path: Path) -> None:
        environ = {"XDG_DATA_HOME": str(tmp_path), "HOME": "/nowhere"}
        assert profile_path("rns", environ) == tmp_path / "helora" / "profiles" / "rns.json"

    @pytest.mark.parametrize("relative", ["", "data"])
    def test_the_users_data_are_by_default_in_the_home_directory(self, tmp_path: Path, relative: str) -> None:
        environ = {"XDG_DATA_HOME": relative, "HOME": str(tmp_path)}
        assert profile_path("rns", environ) == tmp_path / ".local" / "share" / "helora" / "profiles" / "rns.json"

    def test_a_folder_of_the_users_own_comes_first(self, tmp_path: Path) -> None:
        environ = {"HELORA_PROFILES": str(tmp_path), "XDG_DATA_HOME": "/nowhere"}
        assert profile_path("rns", environ) == tmp_path / "rns.json"

    @pytest.mark.parametrize("name", ["", "..", "../rns", "a/b", "/etc/passwd"])
    def test_a_name_does_not_lead_elsewhere(self, name: str) -> None:
        with pytest.raises(InvalidInput):
            profile_path(name, {"HOME": "/nowhere"})

    def test_a_backend_that_was_never_calibrated_has_none(self, tmp_path: Path) -> None:
        assert load_profile("numpy", {"HELORA_PROFILES": str(tmp_path)}) is None

    def test_a_backend_that_was_has_its_own(self, tmp_path: Path) -> None:
        write_profile(profile(chain(60, 40, 40)), tmp_path / "numpy.json")
        loaded = load_profile("numpy", {"HELORA_PROFILES": str(tmp_path)})
        assert loaded is not None
        assert loaded.chains == (chain(60, 40, 40),)

    def test_another_backends_is_refused(self, tmp_path: Path) -> None:
        write_profile(profile(chain(60, 40, 40)), tmp_path / "tenseal.json")
        with pytest.raises(CorruptPayload, match="profile of numpy, not of tenseal"):
            load_profile("tenseal", {"HELORA_PROFILES": str(tmp_path)})

    def test_the_folder_is_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HELORA_PROFILES", str(tmp_path / "a" / "b"))
        target = target_path("numpy")
        assert target == tmp_path / "a" / "b" / "numpy.json"
        assert target.parent.is_dir()

    def test_a_folder_that_cannot_be_made_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("HELORA_PROFILES", str(tmp_path / "file" / "b"))
        with pytest.raises(InvalidInput, match="cannot be made"):
            target_path("numpy")

    def test_a_folder_that_was_asked_for_is_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="is not a directory"):
            target_path("numpy", tmp_path / "missing" / "p.json")
        assert not (tmp_path / "missing").exists()

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="it is a directory"):
            target_path("numpy", tmp_path)
