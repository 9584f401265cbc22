"""What an answer took, as numbers and as lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helora_transformers.generate import Generation
    from helora_transformers.modes import Variant
    from helora_transformers.report import Report

_SUMS = (
    "tokens", "base_ms", "encrypt_ms", "compute_ms", "decrypt_ms", "link_ms", "hooks_ms", "round_trips", "bytes_up",
    "bytes_down", "rotations", "key_switches",
)  # fmt: skip
_PHASES = {
    "base": "base_ms", "encrypt": "encrypt_ms", "server": "compute_ms", "decrypt": "decrypt_ms", "link": "link_ms",
    "hooks": "hooks_ms",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """An answer, and what it took.

    Attributes:
        variant: Whose it is.
        text: What it says.
        tokens: Its tokens.
        finish_reason: ``stop``, ``length`` or ``cancelled``.
        prompt_tokens: Tokens that were given.
        first_ms, total_ms: Until the first token, and until the last one.
        prompt, decode: What reading the prompt took, and what each further token took in sum; None without encryption.
        state: ``bits``, ``leakage``, ``assumes`` and ``correlations_left`` afterwards; None without encryption.
    """

    variant: Variant
    text: str
    tokens: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    first_ms: float
    total_ms: float
    prompt: dict[str, float] | None
    decode: dict[str, float] | None
    state: dict[str, Any] | None

    @classmethod
    def of(cls, variant: Variant, text: str, generation: Generation, reports: list[Report]) -> Answer:
        """From a generation that has ended, and reports before it, at its first token and after it, if there are."""
        before, first, after = (*reports[:2], reports[-1]) if len(reports) > 1 else (None, None, None)
        state = None
        if after is not None:
            state = {name: getattr(after, name) for name in ("bits", "leakage", "assumes", "correlations_left")}
        reason = generation.finish_reason
        return cls(
            variant,
            text,
            generation.tokens,
            "" if reason is None else reason.value,
            generation.prompt_tokens,
            generation.first_ns / 1e6,
            generation.elapsed_ns / 1e6,
            _between(before, first),
            _between(first, after),
            state,
        )

    @property
    def tokens_per_second(self) -> float | None:
        """The rate after the first token; None if there is no further one."""
        took = self.total_ms - self.first_ms
        return (len(self.tokens) - 1) / took * 1e3 if len(self.tokens) > 1 and took > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "variant": self.variant.value, "text": self.text, "tokens": list(self.tokens),
            "finish_reason": self.finish_reason, "prompt_tokens": self.prompt_tokens, "first_ms": self.first_ms,
            "total_ms": self.total_ms, "tokens_per_second": self.tokens_per_second, "prompt": self.prompt,
            "decode": self.decode, **(self.state or dict.fromkeys(("bits", "leakage", "assumes", "correlations_left"))),
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For people: the rate, then time by plane and phase, then bytes and what is revealed."""
        ended = {"length": ", cut off", "cancelled": ", cancelled"}.get(self.finish_reason, "")
        rate = self.tokens_per_second
        first = (
            f"{self.variant.label}: {len(self.tokens)} tokens{ended}; {self.prompt_tokens} given, the first after "
            f"{self.first_ms / 1e3:.2f} s" + ("" if rate is None else f", then {rate:.1f} tokens/s")
        )
        each = _per_token(self.decode) or _per_token(self.prompt)
        if each is None or self.state is None:
            return [first]
        return [first, f"  {_phases(each)}", f"  {_traffic(each)}; {_kept(self.state)}"]

    def line(self) -> str:
        """For people, in one line: the rate, time by plane, bytes, and what is left of what was prepared."""
        ended = {"length": ", cut off", "cancelled": ", cancelled"}.get(self.finish_reason, "")
        rate = "" if self.tokens_per_second is None else f", {self.tokens_per_second:.1f}/s"
        first = f"{self.variant.label}: {len(self.tokens)} tokens{ended}{rate} after {self.first_ms / 1e3:.2f} s"
        each = _per_token(self.decode) or _per_token(self.prompt)
        return first if each is None or self.state is None else f"{first}; {_planes(each)}{_left(self.state)}"


def identical_from(one: Answer, other: Answer) -> int | None:
    """The number of the first token, from 1, in which two answers differ; None if they do not."""
    pairs = zip(one.tokens, other.tokens, strict=False)
    differing = next((number for number, (a, b) in enumerate(pairs, 1) if a != b), None)
    if differing is None and len(one.tokens) != len(other.tokens):
        return min(len(one.tokens), len(other.tokens)) + 1
    return differing


def _between(before: Report | None, after: Report | None) -> dict[str, float] | None:
    if before is None or after is None:
        return None
    return {name: getattr(after, name) - getattr(before, name) for name in _SUMS}


def _per_token(part: dict[str, float] | None) -> dict[str, float] | None:
    return {name: part[name] / part["tokens"] for name in _SUMS} if part and part["tokens"] else None


def _phases(each: dict[str, float]) -> str:
    from helora_core.cli.output import seconds

    ms = sum(each[key] for key in _PHASES.values())
    return f"{seconds(ms)} ms/token: " + ", ".join(f"{name} {seconds(each[key])}" for name, key in _PHASES.items())


def _planes(each: dict[str, float]) -> str:
    from helora_core.cli.output import seconds, size

    ms = sum(each[key] for key in _PHASES.values())
    return (
        f"{seconds(ms)} ms/token (base {seconds(each['base_ms'])}, adapter {seconds(ms - each['base_ms'])}), "
        f"{size(each['bytes_up'])} up, {size(each['bytes_down'])} down"
    )


def _left(state: dict[str, Any]) -> str:
    left = state["correlations_left"]
    return "" if left is None else f"; enough for {left} tokens left"


def _traffic(each: dict[str, float]) -> str:
    from helora_core.cli.output import size

    return (
        f"{size(each['bytes_up'])} up, {size(each['bytes_down'])} down, {each['round_trips']:.0f} round trips a token"
    )


def _kept(state: dict[str, Any]) -> str:
    bits = "" if state["bits"] is None else f"≥ {state['bits']:.1f} bits of Δ, "
    assumed = f" (if {', '.join(state['assumes'])})" if state["assumes"] else ""
    return f"{bits}leakage: {state['leakage']}{assumed}{_left(state)}"
