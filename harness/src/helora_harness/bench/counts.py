"""The counts gate: what every cell costs, against the committed ``counts.lock.json`` and ``budgets.toml``.

Counts are exact and the same on every machine, so they gate; clocks do not. A difference in the lock file *is* the
claim that a change makes a plan cost less or more. Each cell is counted twice: as it runs by default, with sanitised
results, and plain, as benchmarks of others have it. Of both, ring, modulus, keys and bytes are locked with the
operations. States, the gravest first, and exit statuses:

=========  ====  ===================================================================================================
LOST       4     a locked cell can no longer be planned on its backend, or is no longer in any preset
REGRESS    1     a cell costs more, or its ring, batch, sanitising or statistical distance has moved
BUDGET     1     a cell costs more than its absolute budget, or that budget is looser than when the cell was locked
STALE      3     a cell costs less, is new, or has a tighter budget: run with ``--update`` and commit
OK         0     every cell costs what the lock says
=========  ====  ===================================================================================================

Cells of a backend whose library is not installed are reported and left as they are; asked to require them, the gate
calls them LOST.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.phases import kept_bytes
from helora_core.compiler.plan import Plan
from helora_core.compiler.request import DEFAULT_PRECISION_BITS, BackendTraits
from helora_core.compiler.requirements import require_capabilities
from helora_core.errors import HeloraError
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import ModulusUse
from helora_core.params.ckks import CKKSParams
from helora_core.privacy.leakage import Assumption
from helora_core.privacy.policy import DEFAULT_SANITIZE_BITS
from helora_harness.bench.lock import SANITISED, Counts, Locked, LockRefused
from helora_harness.bench.record import Origin, provenance
from helora_harness.benchmarks.shim import plan_facts
from helora_harness.cases import PRESETS, absent
from helora_harness.metrics import COUNTS
from helora_harness.rows import Cell, Row

MODES: Mapping[str, int | None] = MappingProxyType({"": None, SANITISED: DEFAULT_SANITIZE_BITS})
"""Ways in which a cell is counted, by how its name ends: statistical distance of its results, in bits."""

EXIT = {"OK": 0, "REGRESS": 1, "BUDGET": 1, "STALE": 3, "LOST": 4}
_GRAVEST = ("LOST", "REGRESS", "BUDGET", "STALE")
_FIXED = ("ring_degree", "tokens_per_run", "sanitize_bits", "distance_bits")
"""None is better when lower: another ring or batch makes another cell, and results that hide less another promise."""

_WORDS = {
    "keyswitches": "key switches",
    "ct_pt": "ct×pt",
    "bytes_up": "bytes up",
    "bytes_down": "bytes down",
    "bytes_keys": "bytes of rotation keys",
    "bytes_ahead_up": "bytes up ahead of time",
    "bytes_ahead_down": "bytes down ahead of time",
    "bytes_kept": "bytes kept a token",
    "distance_bits": "bits of statistical distance",
    "modulus_bits": "bits of modulus",
}


class Difference(msgspec.Struct, frozen=True):
    """One cell that is not OK, and why in words."""

    state: str
    cell: str
    what: str


def name_of(cell: Cell, mode: str = "") -> str:
    """``backend packing shape tokens`` and a mode, as the lock file and patterns of budgets have it."""
    return f"{cell.backend} {cell.packing} {cell.shape} {cell.tokens}{mode}"


def names_of(cell: Cell) -> list[str]:
    """The names of a cell in every mode."""
    return [name_of(cell, mode) for mode in MODES]


def measured(cells: Iterable[Cell], step: Callable[[], object] = lambda: None) -> dict[str, Counts | str]:
    """The counts of every cell in every mode by name, or the refusal that it met. The backends must be usable here."""
    found: dict[str, Counts | str] = {}
    plans: dict[tuple[object, ...], Plan] = {}  # of backends for which the compiler does the same
    for cell in cells:
        for mode, sanitize_bits in MODES.items():
            try:
                found[name_of(cell, mode)] = gated(plan_of(cell, sanitize_bits, plans))
            except HeloraError as error:
                found[name_of(cell, mode)] = str(error)
        step()
    return found


def plan_of(
    cell: Cell,
    sanitize_bits: int | None = None,
    plans: dict[tuple[object, ...], Plan] | None = None,
    *,
    params: CKKSParams | None = None,
    ring_degree: int | None = None,
) -> Plan:
    """The plan of a cell for what its backend can do.

    Args:
        cell: What to compile.
        sanitize_bits: As of ``compile_plan``: by default results are sent as they are.
        plans: Plans compiled already, which this one is looked for in, and put into.
        params: As of ``compile_plan``: by default they are chosen.
        ring_degree: Likewise.

    Raises:
        HeloraError: The backend is unknown or unusable, or it or the packing refuses the cell.
    """
    manager = get_manager()
    backend = manager.load_backend(cell.backend)
    traits = BackendTraits.of([backend.capabilities])
    key = cell.packing, cell.shape, cell.tokens, sanitize_bits, params, ring_degree, traits
    plans = {} if plans is None else plans
    if key not in plans:
        packing = manager.load_packing(cell.packing)
        plans[key] = compile_plan(
            ModuleShape.parse(cell.shape),
            packing,
            # Ahead of time there is one plan a shape, which keeps the bits that it keeps.
            precision_bits=0.0 if packing.modulus_use is ModulusUse.CORRELATED else DEFAULT_PRECISION_BITS,
            assume=frozenset(Assumption),
            tokens=cell.tokens,
            params=params,
            ring_degree=ring_degree,
            private_weights=False,
            sanitize_bits=sanitize_bits,
            traits=traits,
        )
    require_capabilities(backend, plans[key])
    return plans[key]


def gated(plan: Plan) -> Counts:
    """The locked values of a plan: the counts of one run, its modulus, and how its results are sanitised."""
    return counts_of(plan) | {
        "modulus_bits": plan.params.modulus_bits,
        "sanitize_bits": plan.sanitize_bits or 0,
        **_hidden(plan),
    }


def _hidden(plan: Plan) -> Counts:
    return {} if plan.correlation is None else {"distance_bits": int(plan.correlation.distance_bits)}


def counts_of(plan: Plan) -> Counts:
    """Of one run, by name; of plans that run ahead of time, operations of a batch, and bytes of each phase."""
    return {
        "ring_degree": plan.params.ring_degree,
        "tokens_per_run": plan.tokens_per_run,
        **msgspec.structs.asdict(plan.counts),
        "rotation_keys": len(plan.rotation_steps),
        "live_ciphertexts": _most_alive(plan),
        "bytes_up": plan.bytes_up,
        "bytes_down": plan.bytes_down,
        "bytes_keys": plan.key_bytes,
        **_ahead_of_time(plan),
    }


def _ahead_of_time(plan: Plan) -> Counts:
    """Bytes of a batch, and of each token of it at the client."""
    if plan.correlation is None:
        return {}
    up, down = plan.ahead_bytes
    return {"bytes_ahead_up": up, "bytes_ahead_down": down, "bytes_kept": kept_bytes(plan.program, plan.correlation)}


def row_of(cell: Cell, plan: Plan, of: Origin) -> Row:
    """The counts of a cell's plan as a result row, per token; ahead of time, per token of a batch that is all used."""
    size, traffic = plan.tokens_per_run, plan.bytes_for(cell.tokens)
    share = plan.runs(cell.tokens) / cell.tokens if plan.correlation is None else 1 / size
    counts = msgspec.structs.asdict(plan.counts)
    metrics: dict[str, int | float] = {name: share * counts[old] for old, name in COUNTS.items()}
    metrics |= {
        "rotation_keys": len(plan.rotation_steps),
        "live_ciphertexts": _most_alive(plan),
        "bytes_up_per_token": traffic.up / cell.tokens,
        "bytes_down_per_token": traffic.down / cell.tokens,
        "bytes_keys": plan.key_bytes,
    }
    if plan.correlation is not None:
        metrics |= {
            "bytes_ahead_up_per_token": plan.ahead_bytes.up / size,
            "bytes_ahead_down_per_token": plan.ahead_bytes.down / size,
            "kept_bytes_per_token": kept_bytes(plan.program, plan.correlation),
        }
    secure = get_manager().backends()[cell.backend].spec.provides_security
    facts = provenance(of, cell.backend, plan_facts(plan), secure=secure)
    return Row(kind="counts", cell=cell, metrics=metrics, provenance=facts)


def _most_alive(plan: Plan) -> int:
    """Ciphertexts that an executor which forgets each after its last reader holds at once."""
    alive = most = 0
    for read_last in plan.program.last_reads():
        alive += 1
        most = max(most, alive)
        alive -= len(read_last)
    return most


def judge(
    locked: Mapping[str, Locked],
    now: Mapping[str, Counts | str],
    allowed: Mapping[str, Counts],
    *,
    known: Collection[str] | None = None,
) -> list[Difference]:
    """The differences from the lock, the gravest first.

    Args:
        locked: Cells of the lock file.
        now: The cells that were counted, or why one could not be.
        allowed: Budgets now in force, by cell.
        known: Cells that some preset still has, counted here or not; None for those of ``now``.
    """
    known = now if known is None else known
    found = [Difference("LOST", cell, "nobody measures it any more") for cell in locked if cell not in known]
    for cell, counts in now.items():
        if not isinstance(counts, str):
            found += _of_cell(cell, counts, locked.get(cell), allowed.get(cell, {}))
        elif cell in locked:  # one that never could be planned is no difference
            found.append(Difference("LOST", cell, counts))
    return sorted(found, key=lambda each: (_GRAVEST.index(each.state), each.cell))


def _of_cell(cell: str, counts: Counts, locked: Locked | None, ceilings: Counts) -> Iterable[Difference]:
    over = [
        f"{_words(name)} {counts[name]}, and the budget is {limit}"
        for name, limit in ceilings.items()
        if counts.get(name, 0) > limit
    ]
    if over:
        yield Difference("BUDGET", cell, ", ".join(over))
    if locked is None:
        yield Difference("STALE", cell, "new")
        return
    worse = [name for name in {**locked.counts, **counts} if _is_worse(name, counts, locked.counts)]
    changes = _changes(locked.counts, counts)
    if changes:
        yield Difference("REGRESS" if worse else "STALE", cell, changes)
    looser = any(name not in ceilings or ceilings[name] > limit for name, limit in locked.budget.items())
    moved = _changes(locked.budget, ceilings, "none")
    if moved:
        yield Difference(
            "BUDGET" if looser else "STALE", cell, f"budget {'loosened' if looser else 'changed'}: {moved}"
        )


def _is_worse(name: str, now: Counts, before: Counts) -> bool:
    """Whether a count is more than it was; what is not listed is 0, so that nothing costs something unseen."""
    new, old = now.get(name, 0), before.get(name, 0)
    return new != old if name in _FIXED else new > old


def _changes(before: Counts, now: Counts, absent: int | str = 0) -> str:
    changed = {
        name: (before.get(name, absent), now.get(name, absent))
        for name in {**before, **now}
        if before.get(name, absent) != now.get(name, absent)
    }
    return ", ".join(f"{_words(name)} {old} → {new}" for name, (old, new) in changed.items())


def _words(name: str) -> str:
    return _WORDS.get(name, name.replace("_", " "))


def state_of(differences: Sequence[Difference]) -> str:
    """The gravest state, OK if there is none."""
    return differences[0].state if differences else "OK"


def updated(
    locked: Mapping[str, Locked], now: Mapping[str, Counts | str], allowed: Mapping[str, Counts]
) -> dict[str, Counts]:
    """The lock with the counted cells as they are now. Cells that no preset has go; absent backends' cells stay.

    Raises:
        LockRefused: A locked cell is lost, or one is over its budget: neither is a claim that a file can make.
    """
    bad = [each for each in judge(locked, now, allowed, known=known_cells()) if each.state in ("LOST", "BUDGET")]
    bad = [each for each in bad if isinstance(now.get(each.cell), str) or " and the budget is " in each.what]
    if bad:
        raise LockRefused(
            "Not updated: " + "; ".join(f"{each.cell}: {each.what}" for each in bad),
            hint="Repair the packing or backend, or take the cell out of cases.py or its budget up first.",
        )
    known = known_cells()
    kept = {cell: value.counts for cell, value in locked.items() if cell in known}
    return kept | {cell: counts for cell, counts in now.items() if not isinstance(counts, str)}


def known_cells() -> frozenset[str]:
    """The names of all cells of all presets."""
    return frozenset(name for cells in PRESETS.values() for cell in cells for name in names_of(cell))


def split_absent(cells: Sequence[Cell]) -> tuple[list[Cell], dict[str, str]]:
    """The cells to count here, and why some backends cannot be used here.

    A backend that no plugin offers any more is not among those: its cells are counted, and so found lost.
    """
    offered = get_manager().backends()
    missing = absent(cell.backend for cell in cells if cell.backend in offered)
    return [cell for cell in cells if cell.backend not in missing], missing
