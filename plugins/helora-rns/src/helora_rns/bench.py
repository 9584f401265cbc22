"""``python -m helora_rns.bench``: single operations against Microsoft SEAL, through TenSEAL's bindings, in one process.

The two take turns (``helora_rns.turns``), and the median of the ratios is printed with the range. N=8192, data primes
of 49 bits and a special one of 50, one thread. ``--json`` prints it as data. The harness's ``engine_bars.py`` takes its
operations from here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from helora_core.backend.primes import distinct_ntt_primes
from helora_core.backend.tape import Instruction, InstructionKind, LevelAndScale, Tape, TapeConstant, TapeRun
from helora_core.installing import install_line
from helora_rns.arrays import aligned_copy
from helora_rns.programs.executable import prepared
from helora_rns.scheme import encoding
from helora_rns.scheme.ciphertexts import Ciphertext, Plaintext
from helora_rns.scheme.context import Parameters, context
from helora_rns.scheme.encryption import Decryptor, Encryptor
from helora_rns.scheme.evaluation import Evaluator
from helora_rns.scheme.keys import RotationKey, SecretKey
from helora_rns.turns import Work, alone
from helora_rns.turns import compared as turns_of

N, BITS, SCALE = 8192, (49, 49, 49, 50), 2.0**40
STEPS = (1, 2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class Row:
    """One line: medians in µs, and how many times faster ours is, with the range over rounds."""

    work: str
    ours_us: float
    seal_us: float
    ratio: float
    least: float
    most: float


def rotated_sum() -> Tape:
    """The sum of all rotations times a plaintext, as a program: it is divided by the special prime once."""
    turned = Instruction(kind=InstructionKind.ROTATE, args=(0,), result=1, level=2, scale=SCALE, steps=STEPS)
    summed = Instruction(
        kind=InstructionKind.DOT_PLAIN,
        args=tuple(range(1, len(STEPS) + 1)),
        result=len(STEPS) + 1,
        level=2,
        scale=SCALE**2,
        constants=("weights",) * len(STEPS),
    )
    constants = {"weights": TapeConstant(2, SCALE)}
    return Tape((LevelAndScale(2, SCALE),), constants, (turned, summed), (summed.result,))


def ours() -> dict[str, Work]:
    """Each work by this engine."""
    found = distinct_ntt_primes(BITS, N)
    ring = context(Parameters(N, found[:3], found[3:]))
    secret = SecretKey(ring)
    encryptor, decryptor = Encryptor(ring, secret), Decryptor(ring, secret)
    evaluator = Evaluator(ring, [RotationKey.of(ring, secret, step) for step in STEPS])
    slots = np.random.default_rng(1).uniform(-1, 1, N // 2)

    def encrypted() -> Ciphertext:
        return encryptor.encrypt(encoding.coefficients_of_slots(ring, slots, SCALE), SCALE)

    def encoded(extended: bool = False) -> Plaintext:
        basis = ring.extended(2) if extended else ring.basis(2)
        coefficients = encoding.coefficients_of_slots(ring, slots, SCALE)
        return Plaintext(encoding.values_of(ring, coefficients, basis), 2, SCALE)

    sealed, plain = encrypted(), encoded()
    program = prepared(ring, rotated_sum())
    run = TapeRun(evaluator, program.load({"weights": encoded(extended=True)}, {}), (sealed,))
    many, weights = [encrypted() for _ in range(32)], [encoded() for _ in range(32)]
    rows = aligned_copy(sealed.values[:, :1])
    return {
        "encode + encrypt": encrypted,
        "encode": encoded,
        "ct x pt": lambda: evaluator.multiply_plain(sealed, plain),
        "rescale": lambda: evaluator.rescale(sealed),
        "rotate": lambda: evaluator.rotate(sealed, 1),
        "8 hoisted": lambda: evaluator.rotate_many(sealed, STEPS),
        "8 hoisted x pt, summed": lambda: program.run([run]),
        "dot of 32": lambda: evaluator.dot_plain(many, weights),
        "decrypt + decode": lambda: encoding.slots_of(ring, decryptor.coefficients(sealed), SCALE),
        "NTT of two limbs": lambda: ring.kernels.forward(rows, (0,)),
    }


def seal() -> dict[str, Work]:
    """The same by SEAL."""
    import tenseal.sealapi as api

    parms = api.EncryptionParameters(api.SCHEME_TYPE.CKKS)
    parms.set_poly_modulus_degree(N)
    parms.set_coeff_modulus(api.CoeffModulus.Create(N, list(BITS)))
    ring = api.SEALContext(parms, True, api.SEC_LEVEL_TYPE.NONE)
    keygen = api.KeyGenerator(ring)
    encoder, evaluator = api.CKKSEncoder(ring), api.Evaluator(ring)
    encryptor, decryptor = api.Encryptor(ring, keygen.secret_key()), api.Decryptor(ring, keygen.secret_key())
    keys = api.GaloisKeys()
    keygen.create_galois_keys([pow(3, step, 2 * N) for step in STEPS], keys)
    slots = list(np.random.default_rng(1).uniform(-1, 1, N // 2))

    def encoded() -> object:
        plain = api.Plaintext()
        encoder.encode(slots, SCALE, plain)
        return plain

    def encrypted() -> object:
        sealed = api.Ciphertext()
        encryptor.encrypt_symmetric(encoded(), sealed)
        return sealed

    def made(operation: Callable[..., object], *operands: object) -> object:
        result = api.Ciphertext()
        operation(*operands, result)
        return result

    sealed, plain = encrypted(), encoded()
    many, weights = [encrypted() for _ in range(32)], [encoded() for _ in range(32)]

    def rotated() -> list[object]:
        return [made(evaluator.rotate_vector, sealed, step, keys) for step in STEPS]

    def summed(products: list[object]) -> object:
        total = products[0]
        for each in products[1:]:
            total = made(evaluator.add, total, each)
        return total

    def decrypted() -> object:
        opened = api.Plaintext()
        decryptor.decrypt(sealed, opened)
        return encoder.decode_double(opened)

    return {
        "encode + encrypt": encrypted,
        "encode": encoded,
        "ct x pt": lambda: made(evaluator.multiply_plain, sealed, plain),
        "rescale": lambda: made(evaluator.rescale_to_next, sealed),
        "rotate": lambda: made(evaluator.rotate_vector, sealed, 1, keys),
        "8 hoisted": rotated,
        "8 hoisted x pt, summed": lambda: summed([made(evaluator.multiply_plain, r, plain) for r in rotated()]),
        "dot of 32": lambda: summed([made(evaluator.multiply_plain, a, b) for a, b in zip(many, weights, strict=True)]),
        "decrypt + decode": decrypted,
    }


def compared(name: str, first: Work, second: Work, rounds: int) -> Row:
    """The works in turns."""
    turns = turns_of(first, second, least=rounds)
    return Row(name, turns.first * 1e6, turns.second * 1e6, turns.ratio, turns.least, turns.most)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of each work, at least")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    mine = ours()
    try:
        theirs = seal()
    except ImportError:
        print(f"TenSEAL is not installed: {install_line('tenseal')}", file=sys.stderr)
        return 1
    from helora_rns.choice import chosen

    rows = [compared(name, mine[name], theirs[name], asked.rounds) for name in theirs]
    transform = alone(mine["NTT of two limbs"], least=asked.rounds).ratio / 2 * 1e6
    if asked.json:
        print(json.dumps({"kernels": chosen(), "ntt_us": transform, "rows": [asdict(row) for row in rows]}))
        return 0
    print(f"kernels {chosen()}, N={N}, primes {BITS}; NTT {transform:.1f} µs a limb")
    print(f"{'work':24}{'ours µs':>10}{'SEAL µs':>10}{'ratio':>8}   range")
    for row in rows:
        line = f"{row.work:24}{row.ours_us:10.1f}{row.seal_us:10.1f}{row.ratio:8.1f}"
        print(f"{line}   {row.least:.1f}-{row.most:.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
