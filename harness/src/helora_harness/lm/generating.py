"""Times greedy generation step by step, in several modes by turns: a slow moment of the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec
import torch

from helora_harness.lm.figures import PLAIN, Generation, Phases
from helora_harness.lm.opened import Opened
from helora_transformers.report import Report


@dataclass
class Steps:
    """What is noted as each token is chosen; noting it takes no part of the steps.

    Attributes:
        of: What generates.
        reached, left: When the token was there, and when the next step began: nanoseconds.
        cpu_reached, cpu_left: Processor time of both processes then: milliseconds; None if it is not known.
        reports: Of the adapter.
    """

    of: Opened
    reached: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    cpu_reached: list[float | None] = field(default_factory=list)
    cpu_left: list[float | None] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)

    def __call__(self, ids: Any, scores: Any) -> Any:
        """As transformers calls a processor of logits."""
        self.reached.append(time.perf_counter_ns())
        self.cpu_reached.append(self._cpu_ms())
        if self.of.private is not None:
            self.reports.append(self.of.private.report())
        self.cpu_left.append(self._cpu_ms())
        self.left.append(time.perf_counter_ns())
        return scores

    @property
    def steps_ms(self) -> list[float]:
        """Each step's time."""
        return [(after - before) / 1e6 for before, after in zip(self.left, self.reached[1:], strict=False)]

    @property
    def cpu_ms(self) -> float | None:
        """Processor time of all steps."""
        pairs = list(zip(self.cpu_left, self.cpu_reached[1:], strict=False))
        spent = [after - before for before, after in pairs if after is not None and before is not None]
        return sum(spent) if len(spent) == len(pairs) else None

    def _cpu_ms(self) -> float | None:
        own, server = 1e3 * time.process_time(), self.of.server
        if server is None:
            return own
        others = server.cpu_ms
        return None if others is None else own + others


def prompts(sequences: int, tokens: int, vocabulary: int) -> torch.Tensor:
    """The same random prompts each time, all of one length."""
    generator = torch.Generator().manual_seed(tokens)
    return torch.randint(3, vocabulary, (sequences, tokens), generator=generator)


def generate(of: Opened, ids: torch.Tensor, tokens: int, **arguments: Any) -> torch.Tensor:
    """So many greedy tokens after each prompt, none of which ends it."""
    mask = arguments.pop("attention_mask", torch.ones_like(ids))
    lengths = {"max_new_tokens": tokens, "min_new_tokens": tokens}
    with torch.no_grad():
        found: torch.Tensor = of.model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, num_beams=1, **lengths, **arguments
        )
    return found[:, ids.shape[1] :]


def warm_up(of: Opened, prompt: int) -> None:
    """One prompt and one step: weights are encoded for the plans of both, and memory is touched."""
    generate(of, prompts(1, prompt, of.model.config.vocab_size), 2)


def measured(modes: Sequence[Opened], sequences: int, prompt: int, tokens: int, rounds: int) -> list[Generation]:
    """Each mode in turn, ``rounds`` times.

    Args:
        modes: Open models.
        sequences: Generated together.
        prompt: Tokens of each prompt.
        tokens: To generate after it: one fewer steps of decoding are timed.
        rounds: Of all modes.
    """
    ids = prompts(sequences, prompt, modes[0].model.config.vocab_size)
    runs: dict[str, list[tuple[int, Steps]]] = {each.mode: [] for each in modes}
    for _ in range(rounds):
        for each in modes:
            steps, start = Steps(each), time.perf_counter_ns()
            generate(each, ids, tokens, logits_processor=[steps])
            runs[each.mode].append((start, steps))
    return [_row(each.mode, sequences, prompt, runs[each.mode]) for each in modes]


def _row(mode: str, sequences: int, prompt: int, runs: Sequence[tuple[int, Steps]]) -> Generation:
    prefills = [(steps.reached[0] - start) / 1e6 for start, steps in runs]
    took = [ms for _, steps in runs for ms in steps.steps_ms]
    row = Generation(
        mode=mode,
        sequences=sequences,
        prompt=prompt,
        steps=len(took),
        prefill_ms=min(prefills),
        step_ms=statistics.median(took) if took else 0.0,
        least_ms=min(took, default=0.0),
        cpu_ms=_cpu_ms(runs, len(took)),
    )
    if mode == PLAIN or not took:
        return row
    spent = {name: _spent(runs, f"{name}_ms") / sequences for name in ("base", "encrypt", "decrypt", "link", "hooks")}
    return msgspec.structs.replace(
        row,
        phases=Phases(**spent, server=_spent(runs, "compute_ms") / sequences),
        bytes_up=_spent(runs, "bytes_up") / sequences,
        bytes_down=_spent(runs, "bytes_down") / sequences,
    )


def _spent(runs: Sequence[tuple[int, Steps]], name: str) -> float:
    """What a step added to a figure of the reports: the median."""
    pairs = [pair for _, steps in runs for pair in pairwise(steps.reports)]
    return float(statistics.median(getattr(after, name) - getattr(before, name) for before, after in pairs))


def _cpu_ms(runs: Sequence[tuple[int, Steps]], steps: int) -> float | None:
    spent = [each.cpu_ms for _, each in runs]
    known = [ms for ms in spent if ms is not None]
    return sum(known) / steps if steps and len(known) == len(spent) else None
