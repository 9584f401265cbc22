"""A tiny base model and an adapter for pages, a server of both, and a browser."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from helora_core.adapter.lora import LoRAModule
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.parties.server import Server
from helora_core.privacy.leakage import Assumption
from helora_serve.auth import Access
from helora_serve.base.convert import convert
from helora_serve.catalogue import fixed
from helora_serve.host import Host
from helora_serve.limits import Limits
from helora_serve.service import Service, State
from tests.harness.history.chromium import Chromium, find_chromium
from tests.loading import module_at

SITES = {"self_attn.q_proj": (64, 64), "self_attn.v_proj": (32, 64), "mlp.down_proj": (64, 96)}
Serving = Callable[..., Host]


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The model, in ``tiny.py`` beside this file."""
    return module_at(Path(__file__).with_name("tiny.py"))


@pytest.fixture(scope="session")
def numpy_layers() -> ModuleType:
    """What runs its layers in mode ``split``."""
    return module_at(Path(__file__).parents[1] / "split" / "numpy_layers.py")


@pytest.fixture(scope="session")
def modules() -> dict[str, LoRAModule]:
    """The adapter's, by their names in the model."""
    rng = np.random.default_rng(3)
    names = {f"model.layers.{layer}.{site}": shape for layer in range(2) for site, shape in SITES.items()}
    return {
        name: LoRAModule(name, rng.normal(size=(4, d_in)) / 8, rng.normal(size=(d_out, 4)) / 2, 1.0)
        for name, (d_out, d_in) in names.items()
    }


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType) -> Path:
    """The model as browsers load it."""
    folder = tmp_path_factory.mktemp("page")
    convert(tiny.saved(folder / "model"), folder / "base", weights="f32")
    return folder / "base"


@pytest.fixture(scope="session")
def served() -> Serving:
    """``served(compiled, base)``: a server of adapters and of the page."""

    def start(compiled: CompiledLoRA | dict[str, CompiledLoRA], pages: Path) -> Host:
        once = fixed(Server(compiled, assume={Assumption.HONEST_KEYS}))
        service = Service(lambda batches: once(), limits=Limits(), access=Access(None), state=State(None))
        return Host(service, pages=pages)

    return start


@pytest.fixture(scope="session")
def program() -> str:
    """Where Chromium is; a test that asks for it is skipped where there is none."""
    program = find_chromium()
    if not os.environ.get("HELORA_REQUIRE_BROWSER") and (program is None or sys.platform == "win32"):
        pytest.skip("there is no Chromium: install it, or name it in HELORA_CHROMIUM")
    assert program is not None, "HELORA_REQUIRE_BROWSER is set, and there is no Chromium"
    return program


@pytest.fixture(scope="session")
def chromium(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """It, running."""
    with Chromium(program, tmp_path_factory.mktemp("chromium") / "profile") as running:
        yield running


@pytest.fixture
def browser(chromium: Chromium) -> Iterator[Chromium]:
    """A page of it, with storage of its own."""
    with chromium.apart() as page:
        page.call("Network.disable")  # which would send the megabytes of keys here too
        yield page
