"""How the planner chooses: every packing for one module of the demo, why some are out, what the others cost."""

from __future__ import annotations

from helora_core.adapter.lora import ModuleShape
from helora_core.host.manager import get_manager
from helora_core.planning.planner import HOPELESS
from helora_harness.pictures.drawn import Picture
from helora_harness.pictures.plans import TOKENS, ranked

SHAPE = ModuleShape(d_in=576, d_out=576, rank=8)


def reason(packing: str, code: str, needs: str) -> str:
    """Why a packing is out, in few words."""
    if needs:
        return f"rests on {needs}: not accepted"
    return {
        "leakage-refused": "shows weights to the key holder",
        "hopeless-packing": f"over {HOPELESS:g} times the best",
    }[code]


def picture() -> Picture:
    """A row for each packing."""
    candidates = ranked(SHAPE)
    eligible = [each for each in candidates if each.refusal is None]
    best = eligible[0].cost
    p = Picture(
        "planner",
        f"How the planner chooses a packing for {SHAPE} and {TOKENS} tokens",
        "Every packing is compiled and held to the constraints. The rest are ranked by cost. "
        + "; ".join(f"{each.packing} {each.cost / best:.1f}" for each in eligible)
        + " times the cheapest. Out: "
        + ", ".join(each.packing for each in candidates if each.refusal is not None)
        + ".",
    )
    p.box(14, 14, 452, 34, "plain", [f"module {SHAPE}, {TOKENS} tokens, a backend"])
    p.arrow((240, 48), (240, 70))
    p.box(14, 70, 452, 72, "server", [
        ("each packing: compiled, in the smallest ring that will do", "small"),
        ("held to: private weights, assumptions, precision, security,", "small"),
        ("budgets, what the backend can do", "small")])  # fmt: skip
    p.arrow((240, 142), (240, 164))
    y = 164.0
    p.text(14, y + 14, "ranked by cost, the cheapest runs", "small bold")
    y += 26
    longest = eligible[-1].cost
    for i, each in enumerate(eligible):
        p.text(14, y + 16, each.packing, "small code bold" if i == 0 else "small code")
        wide = 218 * each.cost / longest
        p.bar(176, y + 2, wide, 20, "client" if i == 0 else "plain")
        p.text(176 + wide + 6, y + 17, "1" if i == 0 else f"× {each.cost / best:.1f}", "small")
        y += 27
    y += 12
    p.text(14, y + 14, "out, and why", "small bold")
    y += 24
    for each in candidates:
        if each.refusal is None:
            continue
        assumes = get_manager().load_packing(each.packing).leakage.assumes
        p.text(14, y + 16, each.packing, "small code")
        p.text(176, y + 16, reason(each.packing, each.refusal.code, ", ".join(a.value for a in assumes)), "small")
        y += 25
    p.text(14, y + 18, "Uncalibrated: relative costs. After helora calibrate: ms.", "small dim")
    return p
