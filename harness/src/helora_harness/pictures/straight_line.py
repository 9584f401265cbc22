"""From an adapter on disk to Δ: the seven steps, who does each, and what they are for one module of the demo."""

from __future__ import annotations

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.plan import Plan
from helora_harness.pictures.drawn import Picture
from helora_harness.pictures.plans import demo_plan


def figures(plan: Plan) -> tuple[str, str, str]:
    """What compile, encode and execute come to, for a plan."""
    compiled = f"N = {plan.params.ring_degree}, {plan.tokens_per_run} tokens a run"
    encoded = f"{plan.counts.ct_pt} plaintexts"
    executed = f"{plan.counts.rotations} rotations, {plan.counts.ct_pt} products"
    return compiled, encoded, executed


def picture() -> Picture:
    """The straight line, for q_proj of the bundled adapter."""
    shape = ModuleShape(d_in=576, d_out=576, rank=8)
    plan = demo_plan(shape)
    compiled, encoded, executed = figures(plan)
    up, down = plan.counts.encrypts, plan.counts.decrypts
    p = Picture(
        "straight-line",
        "load, compile, encode, encrypt, execute, decrypt, unpack",
        "The server loads the adapter, compiles a plan, and encodes the weights as plaintexts. The client packs and "
        "encodes x and encrypts it. The server executes the plan's program on ciphertexts. The client decrypts the "
        f"results and unpacks Δ. For a module of {shape} and {plan.tokens_per_run} tokens with {plan.packing.name}: "
        f"{compiled}; {up} ciphertexts up, {executed}, {down} ciphertexts down.",
    )
    p.text(122, 30, "Server", "bold", "middle")
    p.text(358, 30, "Client", "bold", "middle")
    steps = [
        ("server", "load", "adapter → down, up, α/r"),
        ("server", "compile", compiled),
        ("server", "encode", encoded),
        ("client", "encode", "x packed in slots"),
        ("client", "encrypt", f"{up} ciphertexts up"),
        ("server", "execute", executed),
        ("client", "decrypt", f"{down} ciphertexts down"),
        ("client", "unpack", f"Δ: {plan.tokens_per_run} × {shape.d_out}"),
    ]
    left = {"server": 14, "client": 250}
    tops = {}
    rows = [44, 112, 180, 180, 248, 316, 384, 452]
    for i, ((who, verb, what), top) in enumerate(zip(steps, rows, strict=True)):
        tops[i] = top
        p.box(left[who], top, 216, 52, who, [(verb, "bold"), (what, "small")])
    for above, below in ((0, 1), (1, 2), (3, 4), (6, 7)):
        x = left[steps[below][0]] + 108
        p.arrow((x, tops[above] + 52), (x, tops[below]))
    p.arrow((230, 138), (358, 138), (358, 180))
    p.text(244, 130, "offer: the same plan", "small")
    p.arrow((122, 232), (122, 316))
    p.arrow((358, 300), (358, 342), (230, 342))
    p.lock(370, 314)
    p.arrow((122, 368), (122, 410), (250, 410))
    p.lock(134, 382)
    p.text(14, 528, f"{plan.packing.name}, {shape}, r = {shape.rank}; counts by the compiler.", "small dim")
    return p
