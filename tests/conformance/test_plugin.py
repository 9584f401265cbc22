"""The test class of a plugin, run as its implementer would: known failures, overridden laws, the report."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable

import numpy as np
import pytest
from doubles import DOUBLES

from helora_core import __version__
from helora_core.conformance import KIT_VERSION

pytest_plugins = ["pytester"]

COUNTS = "counts for itself"
"""A double that breaks ``test_a_backend_counts_nothing_itself``, and no other law."""

WRONG_AT_THE_LAST = "subtracts wrongly at the last level"
"""A double that breaks ``test_sums_are_right_at_every_level`` for one of its levels."""

Run = Callable[..., pytest.RunResult]


def door(double: str, body: str) -> str:
    """A test class for a double, with ``body`` in it."""
    assert double in DOUBLES
    source = f"""
        import pytest
        from doubles import DOUBLES
        from helora_core.conformance.base import BackendConformance
        from helora_core.conformance.bench import Bench


        class TestDouble(BackendConformance):
            @pytest.fixture(scope="class")
            @classmethod
            def backend_under_test(cls):
                return DOUBLES[{double!r}].factory()

    """
    return textwrap.dedent(source) + textwrap.indent(textwrap.dedent(body), "    ")


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run the kit against a double, with an ``xfails.toml`` beside the test."""

    def run(double: str, *arguments: str, body: str = "", xfails: str | None = None) -> pytest.RunResult:
        pytester.makepyfile(test_double=door(double, body))
        if xfails is not None:
            (pytester.path / "xfails.toml").write_text(textwrap.dedent(xfails), encoding="utf-8")
        return pytester.runpytest_inprocess(
            "-rfEsx", "-p", "no:cacheprovider", "-p", "no:unraisableexception", *arguments
        )

    return run


def counted(result: pytest.RunResult) -> dict[str, int]:
    """Outcomes that occurred, without what was deselected."""
    return {name: count for name, count in result.parseoutcomes().items() if name != "deselected"}


# Known failures.


def test_a_listed_failure_is_known(run: Run) -> None:
    listed = """
        [test_a_backend_counts_nothing_itself]
        reason = "it likes to count"
    """
    result = run(COUNTS, "-k", "counts_nothing", xfails=listed)
    assert counted(result) == {"xfailed": 1}
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*it likes to count*"])


def test_without_the_list_it_fails(run: Run) -> None:
    assert counted(run(COUNTS, "-k", "counts_nothing")) == {"failed": 1}


def test_the_list_may_lie_a_folder_above(run: Run, pytester: pytest.Pytester) -> None:
    listed = '[test_a_backend_counts_nothing_itself]\nreason = "it likes to count"\n'
    (pytester.mkdir("tests") / "test_double.py").write_text(door(COUNTS, ""), encoding="utf-8")
    (pytester.path / "xfails.toml").write_text(listed, encoding="utf-8")
    assert counted(pytester.runpytest_inprocess("tests", "-k", "counts_nothing")) == {"xfailed": 1}


def test_a_listed_law_that_holds_fails_the_run(run: Run) -> None:
    listed = """
        [test_rotate_brings_slot_one_to_slot_zero]
        reason = "it was so once"
    """
    result = run(COUNTS, "-k", "slot_one_to_slot_zero", xfails=listed)
    assert counted(result) == {"failed": 1}
    result.stdout.fnmatch_lines(["*XPASS(strict)*it was so once*"])


def test_a_failure_may_be_listed_for_one_parameter(run: Run) -> None:
    listed = '["test_sums_are_right_at_every_level[0]"]\nreason = "one modulus is another branch here"'
    assert counted(run(WRONG_AT_THE_LAST, "-k", "sums_are_right", xfails=listed)) == {"passed": 2, "xfailed": 1}


def test_a_law_listed_as_a_whole_must_fail_for_every_parameter(run: Run) -> None:
    listed = '[test_sums_are_right_at_every_level]\nreason = "one modulus is another branch here"'
    assert counted(run(WRONG_AT_THE_LAST, "-k", "sums_are_right", xfails=listed)) == {"failed": 2, "xfailed": 1}


MISTAKES = {
    "no reason": ("[test_rotations_compose]", "needs a reason"),
    "an empty reason": ('[test_rotations_compose]\nreason = " "', "needs a reason"),
    "a reason that is no text": ("[test_rotations_compose]\nreason = 34", "needs a reason"),
    "something beside it": ('[test_rotations_compose]\nreason = "x"\nstrict = false', "nothing else"),
    "no table": ('test_rotations_compose = "x"', "needs a reason"),
    "an unknown law": ('[test_rotations_decompose]\nreason = "x"', "no law 'test_rotations_decompose'"),
    "an unknown parameter": ('["test_rotations_compose[9]"]\nreason = "x"', "no law 'test_rotations_compose[9]'"),
    "the guard": ('[test_no_standard_test_is_overridden_or_deleted]\nreason = "x"', "no law 'test_no_standard"),
    "no TOML": ("[test_rotations_compose", "xfails.toml"),
}


@pytest.mark.parametrize(("listed", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_list_with_a_mistake_stops_the_run(run: Run, listed: str, said: str) -> None:
    # Whatever is selected: a mistake must not wait for the day when that law runs.
    result = run(COUNTS, "-k", "counts_nothing", xfails=listed)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
    assert "xfails.toml" in result.stderr.str()


# Overriding.

GUARD = "test_no_standard_test_is_overridden_or_deleted"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("def test_rotations_compose(self): pass", "test_rotations_compose"),
        ("test_rotations_compose = None", "test_rotations_compose"),
        ('bench = pytest.fixture(lambda self: Bench(DOUBLES["rotates one too far"].factory()))', "bench"),
        ("_requirements = None", "_requirements"),
    ],
)
def test_what_a_subclass_overrides_or_deletes_is_noticed(run: Run, body: str, named: str) -> None:
    result = run(COUNTS, "-k", GUARD, body=body)
    assert counted(result) == {"failed": 1}
    result.stdout.fnmatch_lines([f"*overridden or deleted: {named};*xfails.toml*"])


@pytest.mark.parametrize("body", [f"def {GUARD}(self): pass", f"{GUARD} = None"])
def test_the_guard_itself_cannot_be_overridden(run: Run, body: str) -> None:
    result = run(COUNTS, "-k", "rotations_compose", body=body)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"{GUARD} is overridden or deleted" in result.stderr.str()


def test_an_xfail_mark_of_its_own_is_refused(run: Run) -> None:
    result = run(COUNTS, body='pytestmark = pytest.mark.xfail(reason="all of it")')
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "list known failures in xfails.toml" in result.stderr.str()


def test_a_subclass_may_have_tests_of_its_own(run: Run) -> None:
    own = """
        def test_an_extra(self, bench):
            assert bench.params.ring_degree == 8192

        @pytest.mark.xfail(reason="not yet")
        def test_an_extra_for_later(self):
            raise NotImplementedError
    """
    assert counted(run(COUNTS, "-k", "an_extra", body=own)) == {"passed": 1, "xfailed": 1}


# The report.


def test_the_report_says_what_was_tested_with_what(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELORA_COLOUR", "<b>blue</b>")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    selected = "counts_nothing or slot_one_to_slot_zero or half_the_size or overridden"
    listed = '[test_a_backend_counts_nothing_itself]\nreason = "it likes <i>to count</i>"\n'
    result = run(COUNTS, "-k", selected, "--helora-json=report.json", "--helora-html=report.html", xfails=listed)
    document = json.loads((pytester.path / "report.json").read_text(encoding="utf-8"))

    assert document["kit"] == KIT_VERSION
    assert document["helora_core"] == __version__
    assert document["environment"]["HELORA_COLOUR"] == "<b>blue</b>"
    assert document["threads"]["OMP_NUM_THREADS"] == "1"
    assert document["cpus"] >= 1
    (backend,) = document["backends"]
    assert backend["backend"] == "double"
    assert backend["distribution"] is None
    assert backend["params"]["ring_degree"] == 8192
    assert len(backend["params"]["data_primes"]) == 3
    assert backend["modulus_bits"] == 196
    assert 8 < backend["achieved_bits_least"] < 60
    assert document["totals"] == {"passed": 2, "failed": 0, "skipped": 1, "xfailed": 1}
    assert [law["suite"] for law in document["laws"]] == ["rotation", "encryption", "ledger", "base"]
    assert {law["backend"] for law in document["laws"]} == {"double"}
    laws = {law["id"]: law for law in document["laws"]}
    assert laws["test_rotate_brings_slot_one_to_slot_zero"]["suite"] == "rotation"
    assert laws["test_a_backend_counts_nothing_itself"]["reason"] == "it likes <i>to count</i>"
    assert laws["test_a_fresh_ciphertext_travels_at_about_half_the_size"]["reason"] == "not claimed: compressed upload"

    result.stdout.fnmatch_lines(
        [
            f"helora conformance kit {KIT_VERSION}, helora-core {__version__}, *",
            "  double: not registered",
            "    N=8192, primes (56, 40, 40) + (60,), log2(QP) = 196",
            "    least precision seen * bits",
            "  threads: OMP_NUM_THREADS=1; environment: *HELORA_COLOUR=<b>blue</b>*",
        ]
    )
    page = (pytester.path / "report.html").read_text(encoding="utf-8")
    assert "<b>blue</b>" not in page
    assert "it likes &lt;i&gt;to count&lt;/i&gt;" in page
    for law in laws:
        assert law in page
    # Nothing is fetched from anywhere.
    assert not re.findall(r"""(?:src|href)\s*=|@import|url\(|https?:""", page)


def test_a_backend_that_cannot_be_opened_has_a_report_too(run: Run) -> None:
    body = """
        @pytest.fixture(scope="class")
        @classmethod
        def backend_under_test(cls):
            backend = DOUBLES["counts for itself"].factory()
            backend.resolve = None
            return backend
    """
    result = run(COUNTS, "-k", "slot_one_to_slot_zero", body=body)
    assert counted(result) == {"failed": 1}
    result.stdout.fnmatch_lines(["  double: not registered; its parameters could not be resolved"])


def test_there_is_no_report_without_laws(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_something_else(): pass")
    result = pytester.runpytest_inprocess("--helora-json=report.json", "-p", "no:cacheprovider")
    assert "conformance" not in result.stdout.str()
    assert not (pytester.path / "report.json").exists()


def test_slow_laws_run_when_asked_for(run: Run) -> None:
    result = run(COUNTS, "-k", "a_larger_ring")
    assert counted(result) == {"skipped": 1}
    result.stdout.fnmatch_lines(["*slow: runs with --thorough*"])
    assert counted(run(COUNTS, "-k", "a_larger_ring", "--helora-thorough")) == {"passed": 1}


def test_suites_are_keywords(run: Run) -> None:
    result = run(COUNTS, "-k", "ledger")
    assert counted(result) == {"passed": 1, "failed": 1}


assert np  # imported here: pytester forgets what a run imported first, and NumPy can be imported once only
