"""What was measured of language models, in ``harness/lm.json``: parts, each with its conditions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec

from helora_core.errors import HeloraError
from helora_core.files.atomic import replacing
from helora_harness.places import DATA

FIGURES = DATA / "lm.json"
SCHEMA = 1

PLAIN, ONLINE, PRECOMPUTED = "plaintext PEFT", "online", "precomputed"
"""Modes: PEFT's LoRA in the clear; Δ encrypted when it is asked for; Δ with the encrypted work ahead of time."""

Kind = Literal["generation", "identity", "networks", "shapes"]
KINDS: tuple[Kind, ...] = ("generation", "identity", "networks", "shapes")


class FiguresUnreadable(HeloraError):
    """The file of figures is missing, or not one that this version reads."""

    code: ClassVar[str] = "figures-unreadable"


class Conditions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a part was measured.

    Attributes:
        commit: Full hash of the commit that ran.
        dirty: Whether there were changes that it does not have.
        date: When it was done, with time zone.
        machine, cpu_model, python, os: As ``machine_facts`` gives them.
        load: How many processes wanted to run, in the minute before the measurement and at its end; None if the system
            does not say.
        threads: That torch and the engine could use, each.
        backend: The CKKS backend.
        library: What it drives, with its version and, of our own engine, the kernels.
        packages: Versions of torch, transformers and PEFT; empty if no model was run.
        link: ``tcp`` between two processes, or ``in-process``.
        model: The base model's folder; empty if none was run.
        adapter: SHA-256 of the adapter's weights; empty if they are synthetic.
    """

    commit: str
    dirty: bool
    date: Annotated[datetime, msgspec.Meta(tz=True)]
    machine: str
    cpu_model: str
    python: str
    os: str
    load: tuple[float, float] | None
    threads: int
    backend: str
    library: str
    packages: dict[str, str] = {}
    link: str = "in-process"
    model: str = ""
    adapter: str = ""


class Phases(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Milliseconds a token, by plane and phase: medians."""

    base: float = 0.0
    encrypt: float = 0.0
    server: float = 0.0
    decrypt: float = 0.0
    link: float = 0.0
    hooks: float = 0.0


class Mode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a mode needs once. Sizes are bytes.

    Attributes:
        mode: ``online`` or ``precomputed``.
        packings: Of its plans.
        leakage: What the key holder learns beyond Δ.
        assumes: What that rests on.
        sanitize_bits: Statistical distance of results.
        bits: The fewest bits that the bounds on the error left of a token's Δ, in the whole measurement.
        keys_bytes: Evaluation keys, sent once.
        ahead_s: Time of filling the pools, both parties.
        ahead_tokens: For how many tokens they then have something.
        ahead_up, ahead_down: Messages of filling.
        weights_bytes: Weights, encoded for all plans, by the plans.
        idle_bytes: Resident memory of the server's process when it began to listen; None if it has none of its own.
        server_bytes: The same with one client, at the end.
        client_bytes: What a second client with keys and a request to every module added to that; None if not measured.
    """

    mode: str
    packings: tuple[str, ...]
    leakage: str
    assumes: tuple[str, ...]
    sanitize_bits: int | None
    bits: float | None
    keys_bytes: int
    ahead_s: float = 0.0
    ahead_tokens: int = 0
    ahead_up: int = 0
    ahead_down: int = 0
    weights_bytes: int = 0
    idle_bytes: int | None = None
    server_bytes: int | None = None
    client_bytes: int | None = None


class Generation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number of sequences in one mode.

    Attributes:
        mode: Of ``PLAIN``, ``ONLINE``, ``PRECOMPUTED``.
        sequences: Generated together, greedily.
        prompt: Tokens of each prompt.
        steps: Decoding steps that were timed, each a token for every sequence.
        prefill_ms: The prompt's pass: the least of its runs.
        step_ms: A decoding step, with what ``generate`` does around it: the median.
        least_ms: The same: the least.
        cpu_ms: Processor time of a decoding step, both processes; None if it is not known.
        phases: Of decoding, a token.
        bytes_up, bytes_down: Of decoding, a token.
    """

    mode: str
    sequences: int
    prompt: int
    steps: int
    prefill_ms: float
    step_ms: float
    least_ms: float
    cpu_ms: float | None = None
    phases: Phases = Phases()
    bytes_up: float = 0.0
    bytes_down: float = 0.0

    @property
    def decode_per_s(self) -> float:
        """Tokens a second, all sequences together."""
        return 1000 * self.sequences / self.step_ms if self.step_ms else 0.0

    @property
    def prefill_per_s(self) -> float:
        """Tokens of prompts a second."""
        return 1000 * self.sequences * self.prompt / self.prefill_ms if self.prefill_ms else 0.0


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Greedy tokens of a mode beside those of PEFT.

    Attributes:
        mode: ``online`` or ``precomputed``.
        prompts: How many.
        tokens: Generated for each.
        identical: Prompts of which all tokens are the same.
        first_different: By prompt that differs, its number and the token from which on it does.
    """

    mode: str
    prompts: int
    tokens: int
    identical: int
    first_different: tuple[tuple[int, int], ...] = ()


class OverNetwork(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Decoding one sequence through a relay.

    Attributes:
        rtt_ms: Round trip.
        mbit: Megabits a second each way; None for no limit.
        packing: Of all modules.
        chosen: Whether it is the planner's choice for this round trip: ``online``, ``ahead`` (with its assumption
            accepted and tokens prepared), both or neither.
        predicted_ms: A token: the base model as measured, the adapter as predicted; None without a prediction.
        measured_ms: A token: the median of the steps.
        bytes_up, bytes_down: A token.
        round_trips: A token.
        refused: Why it was not run.
    """

    rtt_ms: float
    mbit: float | None
    packing: str
    chosen: tuple[str, ...] = ()
    predicted_ms: float | None = None
    measured_ms: float | None = None
    bytes_up: float = 0.0
    bytes_down: float = 0.0
    round_trips: float = 0.0
    refused: str = ""


class Shaped(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The adapter plane alone, in the shape of a model's adapter, one token at a time.

    Attributes:
        shape: Name of the shape.
        mode: ``online`` or ``precomputed``.
        modules: The modules of a layer, those of one input joined by ``+``, with their shapes.
        layers: Of the model.
        measured_layers: That were run; what is of a token is theirs, scaled to all layers.
        tokens: That were run, one by one.
        packings: Of the plans.
        ring_degrees: Of the plans.
        token_ms: All layers, the median.
        phases: All layers; neither base model nor hooks.
        bytes_up, bytes_down: All layers, a token.
        rotations: All layers, a token.
        keys_bytes: Evaluation keys.
        ahead_us: Of filling, a token of full batches, all layers.
        ahead_up, ahead_down: The same, bytes.
        bits: −log₂ of the largest error over the largest of Δ, at worst, by comparison with the adapter in the clear.
        target_bits: That the plans promise.
        sanitize_bits: Statistical distance of results.
        leakage: What the key holder learns beyond Δ.
        assumes: What that rests on.
        refused: Why it was not run.
    """

    shape: str
    mode: str
    modules: tuple[str, ...]
    layers: int
    measured_layers: int = 0
    tokens: int = 0
    packings: tuple[str, ...] = ()
    ring_degrees: tuple[int, ...] = ()
    token_ms: float = 0.0
    phases: Phases = Phases()
    bytes_up: float = 0.0
    bytes_down: float = 0.0
    rotations: float = 0.0
    keys_bytes: int = 0
    ahead_us: float = 0.0
    ahead_up: float = 0.0
    ahead_down: float = 0.0
    bits: float | None = None
    target_bits: float = 12.0
    sanitize_bits: int | None = None
    leakage: str = ""
    assumes: tuple[str, ...] = ()
    refused: str = ""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one run of one kind gave, on one backend."""

    kind: Kind
    conditions: Conditions
    modes: tuple[Mode, ...] = ()
    generation: tuple[Generation, ...] = ()
    identity: tuple[Identity, ...] = ()
    networks: tuple[OverNetwork, ...] = ()
    shapes: tuple[Shaped, ...] = ()


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    parts: tuple[Part, ...] = ()
    schema: int = SCHEMA

    def of(self, kind: Kind) -> list[Part]:
        """The parts of a kind."""
        return [part for part in self.parts if part.kind == kind]

    def with_parts(self, parts: Iterable[Part]) -> Figures:
        """These figures with parts in the place of those of the same kind, backend and link; shapes replace those of
        their name.
        """
        kept = list(self.parts)
        for part in parts:
            same = [each for each in kept if (each.kind, _place(each)) == (part.kind, _place(part))]
            kept = [each for each in kept if each not in same]
            if part.kind == "shapes":
                names = {row.shape for row in part.shapes}
                left = (_without(each, names) for each in same)
                kept += [each for each in left if each.shapes]
            kept.append(part)
        order = [(kind, place) for kind in KINDS for place in dict.fromkeys(map(_place, kept))]
        return Figures(parts=tuple(sorted(kept, key=lambda each: order.index((each.kind, _place(each))))))


def _place(part: Part) -> tuple[str, str]:
    return part.conditions.backend, part.conditions.link


def _without(part: Part, names: set[str]) -> Part:
    return msgspec.structs.replace(part, shapes=tuple(row for row in part.shapes if row.shape not in names))


def read(path: Path = FIGURES) -> Figures:
    """The figures of a file, by default the committed ones.

    Raises:
        FiguresUnreadable: It is missing, or something in it has no meaning here.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Figures)
    except (OSError, msgspec.DecodeError) as error:
        raise FiguresUnreadable(
            f"{path} has no figures that can be read: {error}.", hint="Write it anew: helora bench lm measure"
        ) from error


def write(figures: Figures, path: Path = FIGURES) -> None:
    """Replace a file of figures."""
    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
