"""Runs the parts that were asked for, one after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from helora_core.compiler.request import AUTO
from helora_harness.lm import shapes
from helora_harness.lm.conditions import THREADS, begin
from helora_harness.lm.figures import (
    ONLINE,
    PLAIN,
    PRECOMPUTED,
    Conditions,
    Generation,
    Kind,
    Mode,
    OverNetwork,
    Part,
    Shaped,
)
from helora_harness.lm.networks import NETWORKS, Network, profile_of
from helora_harness.lm.requirements import BASE, require_base, require_packages


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure, and how long.

    Attributes:
        kinds: Parts.
        base: The base model's folder.
        adapter: The adapter's folder, PEFT's.
        backend: Name of the backend.
        packing: Of plans that run online.
        modes: Encrypted modes of the parts that run a model.
        link: ``tcp`` or ``in-process``.
        delay_ms, mbit: Of the link, one way and each way, for the parts ``generation`` and ``identity``.
        threads: That torch and the engine may use.
        sequences: Numbers of sequences that decode together.
        prompt: Tokens of their prompts.
        prefill: Tokens of the prompt whose pass is timed.
        tokens: To generate in each run.
        rounds: Of all modes by turns.
        identity: Prompts; ``identity_tokens`` are generated for each.
        ahead: Tokens that are prepared for.
        networks: For the part ``networks``.
        network_tokens: To generate over each.
        shapes: For the part ``shapes``.
        layers: Of a shape, to run.
        shape_tokens: To run through them.
    """

    kinds: tuple[Kind, ...]
    base: Path = BASE
    adapter: Path
    backend: str = "rns"
    packing: str = AUTO
    modes: tuple[str, ...] = (ONLINE, PRECOMPUTED)
    link: str = "tcp"
    delay_ms: float = 0.0
    mbit: float | None = None
    threads: int = 1
    sequences: tuple[int, ...] = (1, 4, 8, 16)
    prompt: int = 8
    prefill: int = 64
    tokens: int = 17
    rounds: int = 2
    identity: int = 10
    identity_tokens: int = 64
    ahead: int = 8192
    networks: tuple[Network, ...] = NETWORKS
    network_tokens: int = 7
    shapes: tuple[str, ...] = tuple(shapes.SHAPES)
    layers: int = 2
    shape_tokens: int = 5

    def quick(self) -> Wanted:
        """The same, to see that all of it runs."""
        return msgspec.structs.replace(
            self,
            sequences=self.sequences[:2],
            prefill=min(self.prefill, 16),
            tokens=4,
            rounds=1,
            identity=min(self.identity, 2),
            identity_tokens=8,
            networks=self.networks[:2],
            network_tokens=3,
            layers=1,
            shape_tokens=1,
        )


Tell = Callable[[str], object]


def measured(wanted: Wanted, tell: Tell) -> Iterator[Part]:
    """Each part as soon as it is done.

    Args:
        wanted: What.
        tell: Called with a line as each step begins.

    Raises:
        ModelsMissing: A part runs a model, and packages or the model are missing.
    """
    models = [kind for kind in wanted.kinds if kind != "shapes"]
    if models:
        require_packages()
        require_base(wanted.base)
    if "generation" in models or "identity" in models:
        yield from _of_models(wanted, tell)
    if "networks" in models:
        yield _networks(wanted, tell)
    if "shapes" in wanted.kinds:
        yield _shapes(wanted, tell)


def _of_models(wanted: Wanted, tell: Tell) -> Iterator[Part]:
    """Generation and identity, with the same open models."""
    from helora_harness.lm import generating, identity
    from helora_harness.lm.opened import Setting, base_model, bytes_of_another_client, opened, use_threads

    use_threads(wanted.threads)

    def begun() -> Callable[[], Conditions]:
        """The conditions from now on."""
        return begin(
            wanted.backend, threads=wanted.threads, link=_described(wanted), base=wanted.base, adapter=wanted.adapter
        )

    model = base_model(wanted.base)
    setting = Setting(
        wanted.base,
        wanted.adapter,
        wanted.backend,
        wanted.link,
        wanted.ahead,
        wanted.packing,
        wanted.delay_ms,
        wanted.mbit,
    )
    with ExitStack() as stack:
        modes = []
        end = begun()
        for mode in (PLAIN, *wanted.modes):
            tell(f"opening {mode}")
            modes.append(stack.enter_context(opened(model, mode, setting)))
            generating.warm_up(modes[-1], wanted.prefill)
        encrypted = [each for each in modes if each.private is not None]
        if "generation" in wanted.kinds:
            rows: list[Generation] = []
            sizes = [(1, wanted.prefill, 1), *((each, wanted.prompt, wanted.tokens) for each in wanted.sequences)]
            for sequences, prompt, tokens in sizes:
                tell(f"{sequences} × {prompt} tokens, and {tokens} to generate")
                rows += generating.measured(modes, sequences, prompt, tokens, wanted.rounds)
            once: list[Mode] = []
            for each in encrypted:
                of_mode = each.once()
                once.append(msgspec.structs.replace(of_mode, client_bytes=bytes_of_another_client(each)))
            yield Part(kind="generation", conditions=end(), modes=tuple(once), generation=tuple(rows))
            end = begun()
        if "identity" in wanted.kinds:
            tell(f"identity: {wanted.identity} prompts, {wanted.identity_tokens} tokens each")
            prompts = identity.encoded(wanted.base, wanted.identity)
            same = identity.compared(modes, prompts, wanted.identity_tokens)
            once = [each.once() for each in encrypted]
            yield Part(kind="identity", conditions=end(), modes=tuple(once), identity=tuple(same))


def _described(wanted: Wanted) -> str:
    """The link, in words."""
    if wanted.link != "tcp" or (not wanted.delay_ms and wanted.mbit is None):
        return wanted.link
    return f"tcp, {Network(2 * wanted.delay_ms, wanted.mbit)}"


def _networks(wanted: Wanted, tell: Tell) -> Part:
    from helora_harness.lm import generating, over_networks
    from helora_harness.lm.opened import Opened, Setting, base_model, use_threads

    use_threads(wanted.threads)
    end = begin(wanted.backend, threads=wanted.threads, link="tcp", base=wanted.base, adapter=wanted.adapter)
    tell(f"networks: a profile of {wanted.backend}")
    profile = profile_of(wanted.backend)
    model = base_model(wanted.base)
    (base,) = generating.measured([Opened(PLAIN, model)], 1, wanted.prompt, wanted.tokens, 1)
    rows: list[OverNetwork] = over_networks.measured(
        model,
        Setting(wanted.base, wanted.adapter, wanted.backend, ahead=wanted.ahead),
        wanted.networks,
        profile,
        base_ms=base.step_ms,
        tokens=wanted.network_tokens,
        packings=over_networks.PACKINGS if PRECOMPUTED in wanted.modes else over_networks.PACKINGS[:-1],
        tell=tell,
    )
    return Part(kind="networks", conditions=end(), networks=tuple(rows))


def _shapes(wanted: Wanted, tell: Tell) -> Part:
    os.environ.update(dict.fromkeys(THREADS, str(wanted.threads)))
    end = begin(wanted.backend, threads=wanted.threads, link="in-process")
    rows: list[Shaped] = []
    for name in wanted.shapes:
        for mode in wanted.modes:
            tell(f"shape {name}, {mode}")
            rows.append(
                shapes.measured(
                    name,
                    mode,
                    wanted.backend,
                    layers=wanted.layers,
                    tokens=wanted.shape_tokens,
                    packing=wanted.packing,
                )
            )
    return Part(kind="shapes", conditions=end(), shapes=tuple(rows))
