"""Predicts a plan's time on a machine: its operations, each at its own level, times a calibrated profile.

Of a plan that runs ahead of time, that is its online part and the tokens' share of the batches.

Core's own work between the library's calls, a few microseconds per operation, is not in a profile and shows as the
residual of a prediction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from helora_core.compiler.ir import OpKind
from helora_core.compiler.plan import Plan
from helora_core.errors import ProfileMissing
from helora_core.packing.costs import OperationCosts
from helora_core.params.ckks import CKKSParams
from helora_core.planning.ahead import (
    Ahead,
    answer_charges,
    client_charges,
    expected_tokens,
    opening_charges,
    padding_charges,
    server_charges,
)
from helora_core.planning.charges import Charge, single_charges, whole_charges
from helora_core.planning.profile import Profile

_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Prediction:
    """Milliseconds for all tokens of a plan once activations are there, by phase and by operation; and the batches.

    Attributes:
        tokens: Tokens that the plan runs for.
        runs: Executions needed.
        encrypt_ms: At the client: encrypt or mask, serialise.
        compute_ms: At the server: read, execute, serialise.
        decrypt_ms: At the client: read, decrypt or unmask.
        round_trip_ms: Latency of the messages, up and down.
        by_operation: Parts of ``compute_ms``, by the server's operations.
        ahead: The batches that the tokens use, if the plan runs ahead of time.
    """

    tokens: int
    runs: int
    encrypt_ms: float
    compute_ms: float
    decrypt_ms: float
    round_trip_ms: float
    by_operation: dict[str, float]
    ahead: Ahead | None = None

    @property
    def online_ms(self) -> float:
        """All tokens once activations are there, one phase after the other."""
        return self.encrypt_ms + self.compute_ms + self.decrypt_ms + self.round_trip_ms

    @property
    def ahead_ms(self) -> float:
        """Their share of what is prepared, without the latency of its messages, which nobody waits for."""
        return 0.0 if self.ahead is None else self.tokens * self.ahead.ms_per_token

    @property
    def total_ms(self) -> float:
        """All tokens, what is prepared for them included."""
        return self.online_ms + self.ahead_ms

    @property
    def ms_per_token(self) -> float:
        """Spread over the actual tokens, which also pay for padding."""
        return self.total_ms / self.tokens


def predict(plan: Plan, profile: Profile, *, tokens: int, rtt_ms: float = 0.0, ahead: int | None = None) -> Prediction:
    """Predict the time to run ``tokens`` tokens through a plan.

    Args:
        plan: The plan.
        profile: The backend's profile on the machine in question; both roles are assumed to run on it.
        tokens: Tokens to run.
        rtt_ms: Network round trip; it counts each time the client waits for the server, in each run.
        ahead: Tokens that are expected to use what is prepared; ``tokens`` at least.

    Raises:
        ProfileMissing: The profile was not calibrated for the plan's ring and number of primes, or lacks an operation.
    """
    runs = plan.runs(tokens)
    times = _Times(profile, plan.params)
    if plan.correlation is not None:
        return _of_batches(plan, times, tokens, rtt_ms, expected_tokens(tokens, ahead))
    encrypt = _sum(times, _encryption(plan))
    decrypt = _sum(times, _decryption(plan))
    compute: defaultdict[str, float] = defaultdict(float)
    charges = whole_charges if times.of_programs else single_charges
    for name, charge in charges(plan):
        compute[name] += times.ms(*charge)
    for result in plan.program.results:
        compute["send"] += times.ms("server_send", plan.values[result].level, 1)
    asked = [op for op in plan.program.ops if op.kind is OpKind.ASK_CLIENT]
    return Prediction(
        tokens=tokens,
        runs=runs,
        encrypt_ms=runs * encrypt,
        compute_ms=runs * sum(compute.values()),
        decrypt_ms=runs * decrypt,
        round_trip_ms=runs * (1 + len(asked)) * rtt_ms,
        by_operation={name: runs * ms for name, ms in sorted(compute.items(), key=lambda each: -each[1])},
    )


def _of_batches(plan: Plan, times: _Times, tokens: int, rtt_ms: float, expected: int) -> Prediction:
    """The prediction for a plan that runs ahead of time."""
    runs, answer = plan.runs(tokens), _sum(times, answer_charges(plan, tokens))
    return Prediction(
        tokens=tokens,
        runs=runs,
        encrypt_ms=_sum(times, padding_charges(plan, tokens)),
        compute_ms=answer,
        decrypt_ms=_sum(times, opening_charges(plan, tokens)),
        round_trip_ms=runs * rtt_ms,
        by_operation={"answer": answer},
        ahead=Ahead.of(
            plan,
            expected,
            client_ms=_sum(times, client_charges(plan)),
            server_ms=_sum(times, server_charges(plan)),
        ),
    )


class _Times:
    """Milliseconds by operation and level; the profile is searched once for each."""

    def __init__(self, profile: Profile, params: CKKSParams) -> None:
        self._figures = profile.chain(params).by_operation()
        self._profile = profile
        self._params = params

    @property
    def of_programs(self) -> bool:
        """Whether it has times of operations within whole programs."""
        return ("program_run", self._params.max_level) in self._figures

    def ms(self, operation: str, level: int, times: float) -> float:
        if not times:
            return 0.0
        found = self._figures.get((operation, level))
        if found is None:
            found = self._profile.figure(operation, self._params, level)  # raises, saying what is missing
        return times * found.median_ns / _NS_PER_MS


def _sum(times: _Times, charges: Iterator[Charge]) -> float:
    return sum(times.ms(*charge) for charge in charges)


def _encryption(plan: Plan) -> Iterator[Charge]:
    top, encoding = plan.params.max_level, plan.program.encoding.value
    sent = len(plan.program.inputs) + sum(op.kind is OpKind.ASK_CLIENT for op in plan.program.ops)
    yield f"encrypt_{encoding}", top, sent
    yield "client_send", top, sent


def _decryption(plan: Plan) -> Iterator[Charge]:
    encoding = plan.program.encoding.value
    for value in _downloads(plan):
        level = plan.values[value].level
        yield "client_receive", level, 1
        yield f"decrypt_{encoding}", level, 1


def _downloads(plan: Plan) -> list[int]:
    asked = [arg for op in plan.program.ops if op.kind is OpKind.ASK_CLIENT for arg in op.args]
    return [*plan.program.results, *asked]


def operation_costs(profile: Profile, params: CKKSParams, *, rtt_ms: float = 0.0) -> OperationCosts:
    """A profile's figures as the weights that choose layouts, at the highest level where an operation has one.

    Raises:
        ProfileMissing: The profile has nothing for such parameters.
    """
    figures = profile.chain(params).by_operation()

    def ms(operation: str) -> float:
        levels = [level for name, level in figures if name == operation]
        return figures[operation, max(levels)].median_ns / _NS_PER_MS if levels else 0.0

    if params.wrap_bits:
        return OperationCosts(**_ahead_of_time(ms), round_trip=rtt_ms)
    whole = any(name == "program_run" for name, _ in figures)
    server = _within_programs(ms) if whole else _one_by_one(ms)
    return OperationCosts(
        **server,
        encrypt=ms("encrypt_slots") + ms("client_send") + ms("server_receive"),
        decrypt=ms("server_send") + ms("client_receive") + ms("decrypt_slots"),
        sanitize=ms("sanitize"),
        round_trip=rtt_ms,
    )


def _one_by_one(ms: Callable[[str], float]) -> dict[str, float]:
    return {
        "decompose": max(0.0, ms("rotate_first") - ms("rotate_further")),
        "key_product": ms("rotate_further"),
        "multiply_plain": max(0.0, ms("dot_further") - ms("add")),
        "multiply_scalar": ms("multiply_scalar"),
        "add": ms("add"),
        "rescale": ms("rescale"),
    }


def _within_programs(ms: Callable[[str], float]) -> dict[str, float]:
    """Sums cost next to nothing where they are part of a product or a rotation."""
    return {
        "decompose": ms("program_decompose"),
        "key_product": ms("program_rotate"),
        "divide": ms("program_divide"),
        "multiply_plain": ms("program_multiply"),
        "multiply_scalar": ms("program_multiply_number"),
        "add": 0.0,
        "rescale": ms("program_rescale"),
    }


def _ahead_of_time(ms: Callable[[str], float]) -> dict[str, float]:
    """Programs that run ahead of time are sums of products with numbers."""
    return {
        **dict.fromkeys(("key_product", "multiply_plain", "add", "rescale"), 0.0),
        "encrypt": ms("ahead_draw") + ms("ahead_encrypt") + ms("ahead_receive"),
        "multiply_scalar": (ms("ahead_multiply_down") + ms("ahead_multiply_up")) / 2,
        "sanitize": ms("ahead_draw") + ms("ahead_result"),
        "decrypt": ms("ahead_decrypt"),
    }


@dataclass(frozen=True)
class Bottleneck:
    """The costliest part of the time, and advice.

    Attributes:
        label: rotation-, encryption-, decrypt/transfer-, memory-, latency-, sanitise-, preparation-, answer- or
            overhead-bound.
        share: Its part of the time, 0 to 1.
        advice: What would make it faster.
    """

    label: str
    share: float
    advice: str


_ADVICE = {
    "rotation-bound": "run more tokens together (a shorter period spreads the rotations), or a backend that hoists",
    "encryption-bound": "run modules that share an input as one (--share), or fill the batch",
    "decrypt/transfer-bound": "fewer result ciphertexts: a longer period, or a lower level at the end",
    "memory-bound": "products with plaintexts stream the weights through memory: fewer tokens a run, or a smaller ring",
    "latency-bound": "a packing of one round, or more tokens in flight",
    "sanitise-bound": "fewer result ciphertexts to flood: a longer period, or more tokens together",
    "preparation-bound": "use more of a batch (--ahead), or share it (--share)",
    "answer-bound": "online arithmetic on words: a smaller rank has less of it",
    "overhead-bound": "time goes between the library's calls: larger runs have fewer of them",
}


def bottleneck(prediction: Prediction, *, measured_ms: float | None = None) -> Bottleneck:
    """Label a prediction, or a measurement of the same work with its help.

    Args:
        prediction: For the same tokens.
        measured_ms: The measured time, if they were run.
    """
    total = prediction.total_ms
    if measured_ms is not None and measured_ms > 1.2 * total:
        return _bound("overhead-bound", (measured_ms - total) / measured_ms)
    compute = prediction.compute_ms
    shares = prediction.by_operation
    phases = (prediction.encrypt_ms, compute, prediction.decrypt_ms, prediction.round_trip_ms)
    if prediction.ahead_ms > max(phases):
        return _bound("preparation-bound", prediction.ahead_ms / total)
    if prediction.round_trip_ms > 0.5 * total:
        return _bound("latency-bound", prediction.round_trip_ms / total)
    if prediction.encrypt_ms > compute:
        return _bound("encryption-bound", prediction.encrypt_ms / total)
    transfer = prediction.decrypt_ms + shares.get("send", 0.0) + shares.get("receive", 0.0)
    if transfer > 0.5 * total:
        return _bound("decrypt/transfer-bound", transfer / total)
    groups = {
        "rotation-bound": shares.get("rotate", 0.0),
        "sanitise-bound": shares.get("sanitize", 0.0),
        "memory-bound": sum(shares.get(name, 0.0) for name in ("multiply_plain", "multiply_scalar", "add", "rescale")),
        "answer-bound": shares.get("answer", 0.0),
    }
    label = max(groups, key=lambda name: groups[name])
    return _bound(label, groups[label] / total)


def _bound(label: str, share: float) -> Bottleneck:
    return Bottleneck(label, share, _ADVICE[label])


__all__ = ["Bottleneck", "Prediction", "ProfileMissing", "bottleneck", "operation_costs", "predict"]
