"""Every packing's plans have the same digest in every process, whatever order sets and dictionaries take there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import helora_core
from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.host.manager import get_manager
from tests.registered import ACCEPTED, packings_ahead

REPOSITORY = Path(helora_core.__file__).parents[1]

CASES = [
    (name, shape, tokens, sanitize_bits)
    for name in get_manager().packings()
    for shape, tokens in (("96:64:8", 1), ("48:80:5", 7))
    for sanitize_bits in (None, 40)
]

CODE = f"""
from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.host.manager import get_manager
from helora_core.privacy.leakage import Assumption
load = get_manager().load_packing
for name, shape, tokens, sanitize_bits in {CASES!r}:
    options = dict(tokens=tokens, sanitize_bits=sanitize_bits, private_weights=False, assume=list(Assumption))
    plan = compile_plan(ModuleShape.parse(shape), load(name), **options)
    print(plan.digest)
"""


@pytest.fixture(scope="module")
def here() -> list[str]:
    load = get_manager().load_packing
    return [
        compile_plan(
            ModuleShape.parse(shape),
            load(name),
            tokens=tokens,
            sanitize_bits=sanitize_bits,
            private_weights=False,
            assume=ACCEPTED,
        ).digest
        for name, shape, tokens, sanitize_bits in CASES
    ]


def test_plans_that_differ_have_different_ones(here: list[str]) -> None:
    # What is the same for any number of tokens and any flood is one plan.
    alike = {case[:2] if case[0] in packings_ahead() else case for case in CASES}
    assert len(set(here)) == len(alike)


@pytest.mark.parametrize("seed", ["0", "4242"])
def test_other_processes_have_the_same_ones(here: list[str], seed: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert shown.stdout.split() == here
