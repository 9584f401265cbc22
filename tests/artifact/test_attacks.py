"""Artifacts that somebody altered, with every digest and hash made to fit again: what is loaded is what helora makes.

Hashes find damage. What is refused here is what a server must not run though nothing is damaged: programs that hide
less than they say, plaintexts larger than floods and headroom are made for, parameters that are not secure.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import numpy as np
import pytest
from hypothesis import strategies as st
from safetensors.numpy import load, save

from helora_core.adapter.lora import LoRAModule
from helora_core.adapter.synthetic import synthetic_module
from helora_core.artifact.write import write_artifact
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.compiler.recipe import Recipe
from helora_core.errors import HeloraError, InsecureParameters, LeakageRefused
from helora_core.host.manager import get_manager
from tests.artifact.forging import SHAPE, Change, forge, make, ops, read, reseal, seal, stored_plan

STORABLE = ("rank_bsgs", "outer_product", "cpmm", "halevi_shoup", "halevi_shoup_bsgs")
OWNED = {"private_weights": False, "sanitize_bits": None}
"""Demands of a server whose key holder owns the adapter."""


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Good artifacts by packing, not to be changed."""
    folder = tmp_path_factory.mktemp("artifacts")

    def get(packing: str) -> Path:
        return folder / packing if (folder / packing).exists() else make(folder / packing, packing)

    return get


@pytest.fixture
def artifact(whole: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a good artifact."""

    def get(packing: str = "rank_bsgs") -> Path:
        shutil.copytree(whole(packing), tmp_path / packing)
        return tmp_path / packing

    return get


every_packing = pytest.mark.parametrize("packing", STORABLE)


@every_packing
def test_what_was_not_changed_is_loaded_and_sealing_changes_nothing(
    artifact: Callable[[str], Path], packing: str
) -> None:
    place = artifact(packing)
    before = read(place).modules[0].plan.digest
    forge(place, lambda content: None)
    assert read(place).modules[0].plan.digest == before


def _sanitize_another(content: Any) -> None:
    """The result goes out as it is, and something that nobody asked for is sanitised."""
    (sanitize, *_) = ops(content, OpKind.SANITIZE)
    program = content["program"]
    place = program["ops"].index(sanitize)
    program["outputs"][0] = sanitize["args"][0]
    sanitize["args"] = [place - 2]


def _without_sanitising(content: Any) -> None:
    program = content["program"]
    program["outputs"] = [
        op["args"][0] if (op := program["ops"][output])["kind"] == "sanitize" else output
        for output in program["outputs"]
    ]


def _first_without(content: Any) -> None:
    program = content["program"]
    program["outputs"][0] = program["ops"][program["outputs"][0]]["args"][0]


def _one_bit(content: Any) -> None:
    for op in ops(content, OpKind.SANITIZE):
        op["bits"] = 1
    content["sanitize_bits"] = 1


def _insert_mask(content: Any) -> None:
    program = content["program"]
    output = program["outputs"][0]
    program["ops"].append({"kind": "mask", "args": [output], "constant": "mask.0"})
    program["outputs"][0] = len(program["ops"]) - 1


def _mask_for_sanitize(content: Any) -> None:
    op = ops(content, OpKind.SANITIZE)[0]
    op |= {"kind": "mask", "constant": "mask.0", "bits": 0}


def _ask(content: Any) -> None:
    program = content["program"]
    program["ops"].append({"kind": "ask_client", "args": [program["outputs"][0]]})
    program["outputs"].append(len(program["ops"]) - 1)


ATTACKS: dict[str, Change] = {
    "another value is sanitised": _sanitize_another,
    "nothing is sanitised": _without_sanitising,
    "one result is not sanitised": _first_without,
    "sanitised to one bit": _one_bit,
    "says that it is not sanitised": lambda content: content.update(sanitize_bits=None),
    "says that it is sanitised to more": lambda content: content.update(sanitize_bits=60),
    "a mask more": _insert_mask,
    "a mask for a sanitise": _mask_for_sanitize,
    "a question to the client": _ask,
    "no operation": lambda content: content["program"].update(ops=[], outputs=[None]),
    "rescaling or not": lambda content: content["settings"].update(rescales=not content["settings"]["rescales"]),
    "another packing": lambda content: content.update(
        packing="outer_product" if "rank" in content["packing"] else "rank_bsgs"
    ),
    "one that asks the client": lambda content: content.update(packing="cheetah_two_round", packing_version=1),
    "one that shows weights": lambda content: content.update(packing="zero_moai", packing_version=2),
    "coefficients": lambda content: content["program"].update(encoding="coefficients"),
    "a wider module": lambda content: content["shape"].update(d_in=5000),
    "an absurd shape": lambda content: content["shape"].update(rank=1 << 40),
    "another layout": lambda content: content["layout"].update(dict.fromkeys(content["layout"], 1)),
    "insecure parameters": lambda content: content["settings"]["params"].update(data_bits=[60] * 4),
    "a smaller ring": lambda content: content["settings"]["params"].update(ring_degree=2048),
}


@every_packing
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda name: name.replace(" ", "-"))
def test_an_altered_plan_is_refused(artifact: Callable[[str], Path], packing: str, attack: str) -> None:
    place = artifact(packing)
    forge(place, ATTACKS[attack])
    with pytest.raises(HeloraError) as caught:
        read(place)
    assert caught.value.hint
    # Not by chance either: a server that does not mind what is shown refuses all but what it asks less of.
    if attack not in ("sanitised to one bit", "insecure parameters"):
        with pytest.raises(HeloraError):
            read(place, **OWNED)


_VALUES = st.one_of(
    st.integers(-2, 70), st.integers(0, 5000), st.booleans(), st.none(), st.text(max_size=3),
    st.lists(st.integers(-1, 60), max_size=4),
    st.sampled_from([kind.value for kind in OpKind] + ["down", "up", "slots", "coefficients", "up.0.0", "mask.0"]),
)  # fmt: skip
_FIELDS = ("kind", "args", "steps", "constant", "constants", "role", "positions", "bits")


def _mutated(content: Any, data: st.DataObject) -> None:
    """One change to a program's operations or results."""
    program = content["program"]
    count = len(program["ops"])
    at = data.draw(st.integers(0, count - 1), "operation")
    how = data.draw(st.sampled_from(["set", "drop", "copy", "swap", "argument", "results", "result"]), "how")
    if how == "set":
        program["ops"][at][data.draw(st.sampled_from(_FIELDS), "field")] = data.draw(_VALUES, "value")
    elif how == "drop":
        del program["ops"][at]
    elif how == "copy":
        program["ops"].insert(data.draw(st.integers(0, count), "where"), copy.deepcopy(program["ops"][at]))
    elif how == "swap":
        other = data.draw(st.integers(0, count - 1), "other")
        program["ops"][at], program["ops"][other] = program["ops"][other], program["ops"][at]
    elif how == "argument":
        if program["ops"][at].get("args"):
            place = data.draw(st.integers(0, len(program["ops"][at]["args"]) - 1), "argument")
            program["ops"][at]["args"][place] = data.draw(st.integers(0, max(0, at - 1)), "value")
    elif how == "results":
        program["outputs"] = data.draw(st.lists(st.none() | st.integers(0, count), max_size=3), "results")
    else:
        program["outputs"][-1] = data.draw(st.none() | st.integers(0, count - 1), "result")


def _read_sealed(whole: Path, folders: pytest.TempPathFactory, content: Any, **demands: Any) -> Plan | None:
    """The plan of a copy of an artifact with this content, whole by all its digests; None if it is refused."""
    place = folders.mktemp("forged") / "artifact"
    shutil.copytree(whole, place)
    try:
        seal(place, content)
        return read(place, **demands).modules[0].plan
    except HeloraError:
        return None
    finally:
        shutil.rmtree(place.parent)


@pytest.mark.parametrize("packing", ["rank_bsgs", "cpmm", "halevi_shoup_bsgs"])
@hypothesis.settings(max_examples=60)
@hypothesis.given(data=st.data())
def test_a_program_with_any_change_is_refused(
    whole: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, packing: str, data: st.DataObject
) -> None:
    before = stored_plan(whole(packing))
    content = copy.deepcopy(before)
    _mutated(content, data)
    loaded = _read_sealed(whole(packing), tmp_path_factory, content, **OWNED)
    # What reads as the same program is the same program: a default that was written out, say.
    assert loaded is None or loaded.program == msgspec.convert(before, Recipe).program


@every_packing
@hypothesis.settings(max_examples=15, suppress_health_check=[hypothesis.HealthCheck.too_slow])
@hypothesis.given(data=st.data())
def test_any_other_field_of_a_plan_changes_nothing_or_is_refused(
    whole: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, packing: str, data: st.DataObject
) -> None:
    before = stored_plan(whole(packing))
    content = copy.deepcopy(before)
    node, path = content, []
    while isinstance(node, dict):
        node = {key: value for key, value in node.items() if key != "program"}
        path.append(data.draw(st.sampled_from(sorted(node)), "field"))
        node = node[path[-1]]
    parent = content
    for name in path[:-1]:
        parent = parent[name]
    parent[path[-1]] = data.draw(_VALUES | st.floats(0, 1e6), "value")
    loaded = _read_sealed(whole(packing), tmp_path_factory, content)
    if loaded is not None:
        was = msgspec.convert(before, Recipe)
        # A width or rank that the same slots hold is that of another module, whose further weights are zero.
        assert (loaded.program, loaded.shape.d_out) == (was.program, was.shape.d_out)
        assert loaded.sanitize_bits == was.sanitize_bits
        assert dict(loaded.layout.figures) == was.layout
        assert loaded.settings.params.modulus_bits <= loaded.verdict.limit_bits
        assert loaded.verdict.asked_bits >= 128


class TestDemands:
    def test_what_is_sanitised_too_little_is_refused_by_default(self, tmp_path: Path) -> None:
        place = make(tmp_path / "a", "rank_bsgs", sanitize_bits=20)
        with pytest.raises(LeakageRefused, match="20 bits; 40 are asked for"):
            read(place)
        assert read(place, sanitize_bits=20).modules

    def test_what_is_not_sanitised_is_for_those_who_own_the_adapter(self, tmp_path: Path) -> None:
        place = make(tmp_path / "a", "rank_bsgs", sanitize_bits=None)
        for demands in ({}, {"sanitize_bits": None}, {"private_weights": False}):
            with pytest.raises(LeakageRefused):
                read(place, **demands)
        assert read(place, **OWNED).modules

    def test_parameters_are_judged_by_the_table_that_is_asked_for(self, artifact: Callable[[str], Path]) -> None:
        place = artifact("cpmm")
        with pytest.raises(InsecureParameters, match="adps16-quantum"):
            read(place, table="adps16-quantum")
        loaded = read(place, table="he-standard-2018-quantum").modules[0].plan
        assert loaded.verdict.table == "he-standard-2018-quantum"

    def test_a_more_lenient_table_of_the_artifact_does_not_help(self, tmp_path: Path) -> None:
        place = make(tmp_path / "a", "cpmm", table="he-standard-2018", ring_degree=8192)
        forge(place, lambda content: content["settings"]["params"].update(data_bits=[60, 60, 60], special_bits=[36]))
        with pytest.raises(InsecureParameters, match="guidelines-2024"):
            read(place)

    def test_a_higher_level_than_the_table_has_is_not_invented(self, tmp_path: Path) -> None:
        place = make(tmp_path / "a", "cpmm", security_bits=192)
        assert read(place, table="adps16-quantum").modules[0].plan.verdict.asked_bits == 128
        assert read(place).modules[0].plan.verdict.asked_bits == 192


def _sparse(kind: str) -> LoRAModule:
    dense = synthetic_module(SHAPE, seed=5, name="q_proj")
    down, up = dense.down.copy(), dense.up.copy()
    if kind == "rank one":
        up[:, 1:] = 0
    elif kind == "a block of outputs":
        up[3:9] = 0
    elif kind == "one number":
        down[1, 7] = 0
    elif kind == "nothing":
        up[:] = 0
    elif kind == "diagonals":
        down[:, ::2] = 0
        up[::2] = 0
    return LoRAModule(dense.name, down, up, dense.scaling)


class TestZeros:
    @every_packing
    @pytest.mark.parametrize("kind", ["rank one", "a block of outputs", "one number", "nothing", "diagonals"])
    def test_programs_that_leave_out_zeros_are_loaded(self, tmp_path: Path, packing: str, kind: str) -> None:
        module = _sparse(kind)
        try:
            place = make(tmp_path / "a", packing, module)
        except HeloraError:
            pytest.skip("it cannot be compiled")
        loaded = read(place).modules[0]
        vectors = dict(loaded.vectors(loaded.plan))
        made = dict(loaded.plan.layout.constants(loaded.plan.normalized(module)))
        assert all(np.array_equal(made[name], vector) for name, vector in vectors.items())
        assert kind != "nothing" or not vectors

    def test_a_dense_program_for_a_module_with_zeros_is_loaded(self, tmp_path: Path) -> None:
        module = _sparse("rank one")
        plan = compile_plan(SHAPE, get_manager().load_packing("halevi_shoup"), sanitize_bits=40, precision_bits=8)
        write_artifact(tmp_path / "a", [CompiledModule(module, (Part(name=module.name, d_out=20),), plan)])
        assert read(tmp_path / "a").modules

    def test_a_program_that_leaves_out_a_number_that_is_not_zero_is_refused(
        self, artifact: Callable[[str], Path], tmp_path: Path
    ) -> None:
        """Its plaintexts are those of the dense module."""
        place = artifact("cpmm")
        seal(place, stored_plan(make(tmp_path / "other", "cpmm", _sparse("one number"))))
        with pytest.raises(HeloraError, match="whichever zeros are left out"):
            read(place)


PLAINTEXTS: dict[str, Callable[[dict[str, Any], str], object]] = {
    "another number": lambda tensors, name: tensors[name].__setitem__(0, tensors[name][0] + 1),
    "twice as large": lambda tensors, name: tensors.update({key: 2 * value for key, value in tensors.items()}),
    "shorter": lambda tensors, name: tensors.update({name: tensors[name].ravel()[:-1]}),
}


@every_packing
@pytest.mark.parametrize("change", PLAINTEXTS, ids=lambda name: name.replace(" ", "-"))
def test_plaintexts_that_no_normalised_module_has_are_refused(
    artifact: Callable[[str], Path], packing: str, change: str
) -> None:
    """Floods, bounds and headroom stand on norms of one; smaller weights keep to them as well."""
    place = artifact(packing)
    path = place / "modules/0000.safetensors"
    tensors = load(path.read_bytes())
    PLAINTEXTS[change](tensors, sorted(tensors)[0])
    path.write_bytes(save({name: np.ascontiguousarray(value) for name, value in tensors.items()}))
    reseal(place, json.loads((place / "manifest.json").read_bytes()))
    with pytest.raises(HeloraError, match=r"larger than|another length|does not hold|too long or too short"):
        read(place, **OWNED)
