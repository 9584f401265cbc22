"""The kit itself: what it imports, how its laws are named and marked, and the instruments that they use."""

from __future__ import annotations

import ast
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from helora_core import conformance
from helora_core.backend.capabilities import Capabilities, Encoding, RescaleMode
from helora_core.conformance.base import STANDARD_TESTS
from helora_core.conformance.reachable import reachable
from helora_core.conformance.requirements import requires, slow, unmet
from helora_core.conformance.secrets_in_bytes import strongest_correlation
from helora_core.conformance.suites import SUITES

PACKAGE = Path(conformance.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
DOCS = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")


def test_ids_of_laws_are_unique() -> None:
    written = Counter(
        node.name
        for file in (PACKAGE / "suites").glob("*.py")
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )
    assert written.keys() == STANDARD_TESTS.keys()
    assert set(written.values()) == {1}


def test_every_suite_is_registered_and_on_the_page() -> None:
    modules = {suite.__module__.rpartition(".")[2] for suite in SUITES}
    assert modules == {file.stem for file in (PACKAGE / "suites").glob("[!_]*.py")}
    for module in modules:
        assert f"| `{module}` |" in DOCS


def test_the_kit_needs_nothing_of_these_tests_nor_of_any_plugin() -> None:
    for file in FILES:
        roots = set()
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                roots |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                roots.add((node.module or "").partition(".")[0])
        assert roots.isdisjoint({"tests", "doubles"}), file
        assert not {root for root in roots if root.startswith("helora_") and root != "helora_core"}, file


def test_no_law_asks_which_backend_it_is() -> None:
    names = {"tenseal", "pyfhel", "openfhe", "numpybackend", "desilo"}
    for file in (PACKAGE / "suites").glob("[!_]*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8").lower())
        code = "\n".join(ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Compare))
        assert not [name for name in names if name in code], file


# Requirements.


def test_a_misspelt_ability_is_refused_at_import() -> None:
    with pytest.raises(KeyError):
        requires("hoistign")


def test_a_law_runs_where_its_abilities_are_claimed() -> None:
    @requires("hoisting", "explicit rescaling")
    def law() -> None: ...

    able = Capabilities(encodings=frozenset({Encoding.SLOTS}), hoisting=True)
    unable = Capabilities(encodings=frozenset({Encoding.SLOTS}), rescale=RescaleMode.AUTOMATIC)
    assert unmet(law, able, thorough=False) is None
    assert unmet(law, unable, thorough=False) == "not claimed: hoisting, explicit rescaling"


def test_a_slow_law_runs_when_asked_for() -> None:
    @slow
    def law() -> None: ...

    able = Capabilities(encodings=frozenset({Encoding.SLOTS}))
    assert unmet(law, able, thorough=True) is None
    assert unmet(law, able, thorough=False) == "slow: runs with --thorough"


# What can be reached from a server.


class Secret:
    """What must not be found."""


VAULT: dict[str, Secret] = {}


class Server:
    __slots__ = ("__dict__", "slot")
    of_the_class: object = None

    def looks_into_the_vault(self) -> object:
        return [VAULT.get(key) for key in "ab"]

    @property
    def of_a_property(self) -> object:
        return VAULT

    def _hidden_in_a_lambda(self) -> object:
        return lambda: VAULT


def finds(server: object, secret: Secret) -> bool:
    return any(reached.thing is secret for reached in reachable(server))


def test_an_attribute_a_slot_and_a_container_are_looked_into() -> None:
    for place in ("attribute", "slot"):
        server, secret = Server(), Secret()
        assert not finds(server, secret)
        setattr(server, place, {"keys": [(secret,)]})
        assert finds(server, secret)


def test_closures_partials_bound_methods_and_defaults_are_looked_into() -> None:
    secret = Secret()

    def closing() -> object:
        return secret

    def defaulting(key: object = secret) -> object:
        return key

    def keyword(*, key: object = secret) -> object:
        return key

    for callback in (closing, defaulting, keyword, partial(print, secret), lambda: closing(), [secret].append):
        server = Server()
        server.callback = callback
        assert finds(server, secret), callback


def test_class_attributes_and_global_tables_are_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = Secret()
    monkeypatch.setattr(Server, "of_the_class", [secret])
    assert finds(Server(), secret)
    monkeypatch.undo()
    assert not finds(Server(), secret)
    monkeypatch.setitem(VAULT, "a", secret)
    assert finds(Server(), secret)


def test_an_object_is_found_under_each_of_its_names() -> None:
    server, secret = Server(), Secret()
    server.harmless = server.secret_key = secret
    assert {"harmless", "secret_key"} <= {reached.name for reached in reachable(server) if reached.thing is secret}


# What can be read out of bytes.

NUMBERS = np.random.default_rng(1).uniform(-8, 8, 4096)
FORMATS = {
    "float64": lambda x: x.tobytes(),
    "big-endian float64": lambda x: x.astype(">f8").tobytes(),
    "float32": lambda x: x.astype("<f4").tobytes(),
    "half": lambda x: x.astype("<f2").tobytes(),
    "fixed-point": lambda x: np.round(x * 2.0**40).astype("<i8").tobytes(),
    "fixed-point, unsigned": lambda x: (np.round(x * 2.0**40).astype(np.int64) % (2**60 - 93)).astype("<u8").tobytes(),
    "quantised to 8 bits": lambda x: np.round(x * 15).astype(np.int8).tobytes(),
    "noisy complex": lambda x: (x + np.random.default_rng(2).normal(0, 1, x.size) * (1 + 1j)).tobytes(),
    "negated": lambda x: (-x).tobytes(),
}


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_are_found_in_any_format(name: str) -> None:
    around = np.random.default_rng(3).bytes
    assert strongest_correlation(around(1001) + FORMATS[name](NUMBERS) + around(500), NUMBERS) > 0.5


def test_numbers_are_not_found_where_there_are_none() -> None:
    random = np.random.default_rng(4)
    assert strongest_correlation(random.bytes(200_000), NUMBERS) < 0.15
    residues = random.integers(0, 2**40, 50_000).astype("<u8").tobytes()
    assert strongest_correlation(residues, NUMBERS) < 0.15
    assert strongest_correlation(b"short", NUMBERS) == 0.0
