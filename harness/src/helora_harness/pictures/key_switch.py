"""One rotation and its key switch, as our own engine does it, with the counts for a plan of the demo."""

from __future__ import annotations

from helora_core.adapter.lora import ModuleShape
from helora_harness.pictures.drawn import Picture
from helora_harness.pictures.plans import demo_plan
from helora_rns.programs.steps import Kind, Step, transforms


def picture() -> Picture:
    """Decompose, multiply, divide, move."""
    shape = ModuleShape(d_in=576, d_out=576, rank=8)
    params = demo_plan(shape).params
    ring, data, special = params.ring_degree, len(params.data_bits), len(params.special_bits)
    decompose = transforms((Step(Kind.DECOMPOSE, data, data, ()),), special)["transforms"]
    divide = transforms((Step(Kind.DIVIDE, data, data, ()),) * 2, special)["transforms"]
    key_mib = 2 * data * (data + special) * ring * 8 / 2**20
    p = Picture(
        "key-switch",
        "A rotation and its key switch: decompose, multiply by the key, divide by P, move",
        f"With {data} data primes and {special} special prime P: the second polynomial is decomposed into {data} "
        f"digits, which takes {decompose} transforms. Each digit is multiplied by its part of the rotation key, "
        f"{key_mib:g} MiB, and the products are added. Both sums are divided by P, {divide} transforms, the first "
        "polynomial is added, and the automorphism moves the slots.",
    )
    p.box(24, 18, 150, 44, "client", [("c₀", "bold"), (f"{data} primes", "small")])
    p.box(214, 18, 242, 44, "client", [("c₁", "bold"), (f"{data} primes", "small")])
    p.arrow((335, 62), (335, 92))
    p.box(214, 92, 242, 64, "server", [
        ("decompose", "bold"), (f"{data} digits modulo all {data + special} primes", "small"),
        (f"{decompose} transforms", "small")])  # fmt: skip
    p.arrow((335, 156), (335, 228))
    digit = 242 / data
    for i in range(data):
        p.box(214 + digit * i + 3, 170, digit - 6, 26, "plain", [(f"digit {i}", "small")])
    p.box(
        24,
        228,
        150,
        64,
        "mark",
        [("rotation key", "bold"), ("for this step alone", "small"), (f"{key_mib:g} MiB in memory", "small")],
    )
    p.arrow((174, 260), (214, 260))
    p.box(
        214,
        228,
        242,
        64,
        "server",
        [("multiply, add up", "bold"), ("each digit by its part of the key", "small"), ("no transforms", "small")],
    )
    p.arrow((335, 292), (335, 322))
    p.box(
        214,
        322,
        242,
        64,
        "server",
        [("divide by P", "bold"), ("two polynomials", "small"), (f"{divide} transforms", "small")],
    )
    p.arrow((335, 386), (335, 416))
    p.box(214, 416, 242, 44, "server", [("add c₀", "bold")])
    p.rule(12, 40, 24, 40)
    p.arrow((12, 40), (12, 438), (214, 438))
    p.arrow((335, 460), (335, 490))
    p.box(
        214,
        490,
        242,
        64,
        "client",
        [("move", "bold"), ("slot i + k goes to slot i;", "small"), ("under the same secret key", "small")],
    )
    p.text(24, 580, f"N = {ring}, {data} + {special} primes: q_proj of the demo's adapter.", "small dim")
    p.text(24, 599, "Hoisting: rotations of one ciphertext decompose it once.", "small dim")
    return p
