"""The cost of the framework: one token of ``rank_bsgs`` through helora, compared with the same SEAL calls by hand.

Both do the whole round for the same module: pack, encrypt, serialise, read, compute, serialise, read, decrypt, unpack.
The hand-written side uses ``tenseal.sealapi`` alone, with weights encoded and keys made beforehand, as in helora.
It takes helora's program as a list of steps, but none of helora's types, sessions, checks, ledger or envelopes.

The two run in turn (A B B A …) in one process, and the figure is the median over pairs of their ratio, which holds when
the machine's speed drifts. It is ``helora bench by-hand``; what Python alone costs is ``helora bench overhead``.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import tenseal.sealapi as seal

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.session import open_sessions
from helora_core.cli.numbers import Whole
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.exponents import normalized_tokens
from helora_core.compiler.ir import OpKind
from helora_core.compiler.ir import plaintexts as names_of
from helora_core.compiler.plan import Plan
from helora_core.execution.constants import encode_constants
from helora_core.execution.reference import precision_bits
from helora_core.packing.protocol import Vector
from helora_core.packing.rank_bsgs import RankBSGS
from helora_core.parties.module_run import run_module
from helora_tenseal.backend import TenSEALBackend

Token = Callable[[], Vector]


def helora_token(plan: Plan, module: LoRAModule, x: Vector) -> Token:
    """A function that runs ``x`` through helora."""
    client, server = open_sessions(TenSEALBackend(), plan.params, plan.rotation_steps)
    constants = encode_constants(plan, module, server.encoder)
    return lambda: run_module(plan, constants, client, server, x).delta


class RawSEAL:
    """The same by hand: contexts, keys and encoded weights, and the calls in a row."""

    def __init__(self, plan: Plan, module: LoRAModule, x: Vector) -> None:
        self._plan = plan.for_module(module)
        self._x, self._exponents = normalized_tokens(x)
        params = plan.params
        parms = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        parms.set_poly_modulus_degree(params.ring_degree)
        bits = [*params.data_bits, *params.special_bits]
        parms.set_coeff_modulus(seal.CoeffModulus.Create(params.ring_degree, bits))
        self._context = seal.SEALContext(parms, True, seal.SEC_LEVEL_TYPE.TC128)
        keygen = seal.KeyGenerator(self._context)
        secret_key = keygen.secret_key()
        self._encryptor = seal.Encryptor(self._context, secret_key)
        self._decryptor = seal.Decryptor(self._context, secret_key)
        self._encoder, self._evaluator = seal.CKKSEncoder(self._context), seal.Evaluator(self._context)
        self._galois_keys = seal.GaloisKeys()
        elements = [pow(3, step, 2 * params.ring_degree) for step in plan.rotation_steps]
        keygen.create_galois_keys(elements, self._galois_keys)
        self._steps = self._compiled(plan.normalized(module))

    def _compiled(self, module: LoRAModule) -> list[tuple[OpKind, tuple[int, ...], Any, tuple[int, ...]]]:
        parms_ids = {}
        data = self._context.first_context_data()
        while data is not None:
            parms_ids[data.chain_index()] = data.parms_id()
            data = data.next_context_data()
        plaintexts = {}
        for name, vector in self._plan.layout.constants(module):
            spec = self._plan.constant_specs[name]
            plaintexts[name] = seal.Plaintext()
            self._encoder.encode(vector, parms_ids[spec.level], 2.0**spec.scale_bits, plaintexts[name])
        program = self._plan.program
        return [
            (op.kind, op.args, [plaintexts[name] for name in names_of(op)] or op.steps, freed)
            for op, freed in zip(program.ops, program.last_reads(), strict=True)
        ]

    def _transported(self, save: Callable[[str], object]) -> Any:
        """Serialise into memory and read it back."""
        descriptor = os.memfd_create("raw")
        path = f"/proc/self/fd/{descriptor}"
        save(path)
        received = seal.Ciphertext(self._context)
        received.load(self._context, path)
        os.close(descriptor)
        return received

    def token(self) -> Vector:
        """One round."""
        plaintext = seal.Plaintext()
        (packed,) = self._plan.layout.pack(self._x)
        self._encoder.encode(packed, 2.0**self._plan.scales.input_bits, plaintext)
        upload = self._transported(self._encryptor.encrypt_symmetric(plaintext).save)
        result = self._transported(self._computed(upload).save)
        decrypted = seal.Plaintext()
        self._decryptor.decrypt(result, decrypted)
        delta = self._plan.layout.unpack([np.array(self._encoder.decode_double(decrypted))], self._x.shape[0], None)
        return np.ldexp(delta, self._exponents[:, np.newaxis] + (self._plan.exponent or 0))

    def _computed(self, x: Any) -> Any:
        evaluator = self._evaluator
        live: dict[int, Any] = {}
        for i, (kind, args, operand, freed) in enumerate(self._steps):
            result = seal.Ciphertext()
            if kind is OpKind.INPUT:
                result = x
            elif kind is OpKind.ROTATE:
                evaluator.rotate_vector(live[args[0]], operand, self._galois_keys, result)
            elif kind in (OpKind.MULTIPLY_PLAIN, OpKind.DOT_PLAIN):
                evaluator.multiply_plain(live[args[0]], operand[0], result)
                for arg, plaintext in zip(args[1:], operand[1:], strict=True):
                    product = seal.Ciphertext()
                    evaluator.multiply_plain(live[arg], plaintext, product)
                    evaluator.add_inplace(result, product)
            elif kind is OpKind.ADD:
                evaluator.add(live[args[0]], live[args[1]], result)
            else:
                evaluator.rescale_to_next(live[args[0]], result)
            live[i] = result
            for value in freed:
                del live[value]
        return live[self._plan.program.results[0]]


def paired_ms(first: Token, second: Token, pairs: int) -> tuple[list[float], list[float]]:
    """Milliseconds of both, in ABBA order after one warm-up each."""
    times: tuple[list[float], list[float]] = ([], [])
    first(), second()
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            start = time.perf_counter_ns()
            (first, second)[which]()
            times[which].append((time.perf_counter_ns() - start) / 1e6)
    return times


@click.command("by-hand")
@click.option("--shape", default="1536:1536:16", show_default=True, help="d_in:d_out:rank.")
@click.option("--ring", default=8192, show_default=True, help="Ring degree.")
@click.option("--pairs", type=Whole(1), default=60, show_default=True, help="Pairs of runs.")
def by_hand(shape: str, ring: int, pairs: int) -> None:
    """Print the time of one token over that of the same SEAL calls written by hand, as JSON."""
    module_shape = ModuleShape.parse(shape)
    plan = compile_plan(module_shape, RankBSGS(), ring_degree=ring, private_weights=False)
    module, x = synthetic_module(module_shape, seed=1), synthetic_activations(module_shape, 1, seed=2)
    through_helora, raw = helora_token(plan, module, x), RawSEAL(plan, module, x).token
    reference = module.reference_delta(x)
    bits = {name: precision_bits(run(), reference) for name, run in (("helora", through_helora), ("raw", raw))}
    ours, theirs = paired_ms(through_helora, raw, pairs)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)
    figures = {
        "ratio_median": statistics.median(ratios),
        "ratio_quartiles": [low, high],
        "helora_ms_median": statistics.median(ours),
        "raw_ms_median": statistics.median(theirs),
        "precision_bits": bits,
        "pairs": pairs,
        "plan": plan.digest,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    click.echo(json.dumps(figures, indent=2))
