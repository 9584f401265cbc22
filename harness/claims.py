"""``docs/claims.md``: each published figure of the field beside what this repository measures.

``CLAIMS`` quotes the published figures, with where each stands and what the work was. ``measure`` runs the nearest
work here, and keeps one row of each variant in ``claims.jsonl``; ``rendered`` makes the page of both; ``problems`` says
what no longer holds: a page that is not what the rows give, counts that the code no longer gives, a claim without rows.
The rows have a file of their own: a ``Cell`` of ``harness/rows.py`` knows neither sanitising nor given parameters, and
the history site would take them for others.

It is ``helora bench claims``.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np

from harness.bench.counts import counts_of
from harness.bench.record import Origin, origin, provenance
from harness.benchmarks.shim import plan_facts
from harness.rows import Cell, MetricName, Provenance
from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.backend.ledger import Ledger
from helora_core.backend.session import open_sessions
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.plan import Plan
from helora_core.compiler.requirements import require_capabilities
from helora_core.compiler.settings import DEFAULT_PRECISION_BITS
from helora_core.errors import HeloraError
from helora_core.execution.constants import encode_constants
from helora_core.execution.reference import precision_bits
from helora_core.files.atomic import replacing
from helora_core.host.manager import get_manager
from helora_core.packing.protocol import Vector
from helora_core.params.ckks import CKKSParams
from helora_core.parties.module_run import ModuleRun, run_module

SCHEMA = 1
REPO = Path(__file__).parents[1]
DATA = Path(__file__).with_name("claims.jsonl")
PAGE = REPO / "docs" / "claims.md"
BACKEND = "tenseal"
RUNS = 5
"""Timed runs of each variant, after one that is not."""

READ = "2026-11-21"
"""When the sources were read."""


class RowsUnreadable(HeloraError):
    """The file of rows is not what this version reads."""

    code: ClassVar[str] = "claims-rows-unreadable"


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a claim stands.

    Attributes:
        name: Of the document, as the page names it.
        url: Of the version that was read, where there is one.
        quote: Its words, as they stand there but for line breaks and bold type.
    """

    name: str
    url: str
    quote: str


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """Work that is done here.

    Attributes:
        name: Of its row, unique within the claim.
        label: What it is, for the table.
        shape: ``d_in:d_out:r``.
        tokens: Run together.
        packing: Name of the packing; empty for a formula.
        params: Given parameters; None for those that are chosen for the plan.
        ring_degree: When choosing, take this ring rather than the smallest that will do.
        sanitize_bits: To which statistical distance results are sanitised; None for not at all.
        timed: Run it; else its plan is counted alone.
        formula: Instead of a plan, a formula of ``FORMULAS`` in the clear.
    """

    name: str
    label: str
    shape: str
    tokens: int = 1
    packing: str = ""
    params: CKKSParams | None = None
    ring_degree: int | None = None
    sanitize_bits: int | None = None
    timed: bool = True
    formula: str = ""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A published figure and what to put beside it.

    Attributes:
        name: Of its rows.
        title: Heading of its section.
        sources: Where it stands.
        work: What was measured there, as far as the sources say.
        published: Rows of the table, of published figures by heading.
        columns: Headings of the table.
        variants: What is put beside it.
        same: Paragraphs: what was and was not the same work.
        modules: Adapted modules per token there; ours, of one module, are multiplied by it.
    """

    name: str
    title: str
    sources: tuple[Source, ...]
    work: str
    published: tuple[Mapping[str, str], ...]
    columns: tuple[str, ...]
    variants: tuple[Variant, ...]
    same: tuple[str, ...]
    modules: int = 1


class ClaimRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One variant, counted and, if it is timed, measured.

    Attributes:
        claim: Name of the claim.
        variant: Name of the variant.
        cell: What was run.
        sanitize_bits: As of the variant.
        given_params: Parameters were given rather than chosen.
        leakage: What the key holder learns beyond Δ; empty for a formula.
        counts: Of one run, as the plan predicts; empty for a formula.
        metrics: By name; names end in their unit.
        provenance: How they came about.
        schema: Version of this record.
    """

    claim: str
    variant: str
    cell: Cell
    sanitize_bits: int | None
    given_params: bool
    leakage: str
    counts: dict[str, int]
    metrics: dict[MetricName, int | float]
    provenance: Provenance
    schema: Annotated[int, msgspec.Meta(ge=1, le=SCHEMA)] = SCHEMA


_TENSAFE = "https://github.com/Danielfoojunwei/TenSafe-Homormorphically-Encrypted-LoRA-Adaptation/blob"
_LOOP = "https://github.com/Danielfoojunwei/provenloop/blob"
_KERNEL = f"{_TENSAFE}/11059be5ab72a0b6c993440e7c7e0bfc092d3ee6/he_lora_microkernel"


def _chain(ring_degree: int) -> CKKSParams:
    """The modulus [60, 40, 40, 60] at a scale of 2^40, which TenSafe states."""
    return CKKSParams(ring_degree=ring_degree, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)


_TIMES = (
    "work",
    "modules",
    "tokens",
    "N",
    "modulus bits",
    "security",
    "sanitised",
    "ms/token",
    "rotations/token",
    "bits",
    "up/token",
    "down/token",
    "key holder learns",
)
_COUNTS = ("work", "modules", "tokens", "N", "rotations/run", "rotations/token", "ct×pt/token", "key holder learns")
_ERRORS = ("work", "tokens", "rotations/run", "rotations/token", "largest error / largest Δ")

CLAIMS = (
    Claim(
        name="tensafe_decoding",
        title="TenSafe: 7.4 tokens per second",
        sources=(
            Source(
                name="Danielfoojunwei/provenloop, README.md, section 1, Key Results",
                url=f"{_LOOP}/549da8faaf0a33f058a950dd1d954b13017f2930/README.md",
                quote="WebSocket HE (best) | CuKKS GPU, poly_n=16384, batch decrypt | 7.4 | 135 | 16",
            ),
            Source(
                name="the same table",
                url=f"{_LOOP}/549da8faaf0a33f058a950dd1d954b13017f2930/README.md",
                quote="Base model (no HE, reference) | Qwen2.5-1.5B, float16 | 28.2 | 35 | 16",
            ),
            Source(
                name="the same, section 1, CKKS Encryption Parameters",
                url=f"{_LOOP}/549da8faaf0a33f058a950dd1d954b13017f2930/README.md",
                quote="Coefficient modulus | [60, 40, 40, 60] bits",
            ),
            Source(
                name="the same, section 19, Comparison to SOTA",
                url=f"{_LOOP}/549da8faaf0a33f058a950dd1d954b13017f2930/README.md",
                quote="One ct*pt (packed A), plaintext B",
            ),
            Source(
                name="Danielfoojunwei/provenloop, demonstrator/server/inference_engine.py, _load_lora_from_checkpoint",
                url=f"{_LOOP}/078cbc0dcd32193c7aa1170f3320202ee7eff618/demonstrator/server/inference_engine.py",
                quote="Use first q_proj LoRA pair (representative for HE demo)",
            ),
        ),
        work="Qwen2.5-1.5B decoding one sequence on an NVIDIA RTX A2000 8GB laptop GPU, the best of the runs. The "
        "135 ms of a token include the base model in the clear (35 ms without encryption, by the same table). For "
        "each token, the hidden state after the last layer (1536 numbers) is multiplied under CKKS with one `down` "
        "of rank 32. The products are decrypted, summed in the clear, and multiplied with `up` in the clear.",
        published=(
            {
                "work": "TenSafe, whole decoding step",
                "modules": "1",
                "tokens": "1",
                "N": "16384",
                "modulus bits": "60+40+40+60",
                "security": "≥ 128-bit (theirs)",
                "sanitised": "no",
                "ms/token": "135 (7.4 tokens/s)",
                "rotations/token": "0",
            },
        ),
        columns=_TIMES,
        variants=(
            Variant(
                name="theirs",
                label="`zero_moai`, their parameters",
                packing="zero_moai",
                shape="1536:1536:32",
                params=_chain(16384),
            ),
            Variant(name="chosen", label="`zero_moai`, chosen parameters", packing="zero_moai", shape="1536:1536:32"),
            Variant(
                name="private",
                label="`rank_bsgs`, private weights",
                packing="rank_bsgs",
                shape="1536:1536:32",
                sanitize_bits=40,
            ),
            Variant(
                name="theirs_8",
                label="`zero_moai`, their parameters",
                packing="zero_moai",
                shape="1536:1536:32",
                tokens=8,
                params=_chain(16384),
            ),
            Variant(
                name="private_8",
                label="`rank_bsgs`, private weights",
                packing="rank_bsgs",
                shape="1536:1536:32",
                tokens=8,
                sanitize_bits=40,
            ),
        ),
        same=(
            "**The same:** one module of 1536 × 1536 and rank 32, one token; `zero_moai` with their parameters is "
            "their algorithm: replicate, multiply, decrypt, sum and multiply with `up` in the clear.",
            "**Not the same:** their 135 ms contain the base model, sampling and transport, ours only encrypt, compute "
            "and decrypt, with messages serialised but no network. Theirs ran on a GPU, ours on one CPU thread. "
            "Theirs adds noise to the hidden state before it is encrypted, ours does not.",
            "**What it means:** at the commit that was read, the engine applies one pair of matrices of the adapter, "
            "the first `q_proj`, to the final hidden state. A LoRA adapter on q, k, v and o projections has four "
            "pairs in each of 28 layers, so the figure is not that of the model as it was fine-tuned. There are no "
            "rotations because the sums are left to the holder of the key, who sees every product of a feature and "
            "an entry of `down`; whoever knows the features has all of `down` after one query. Nothing is sanitised, "
            "and `up` is in the clear where the key is. The server itself encrypts, computes and decrypts "
            "(“Server-local encrypt/compute/decrypt”, section 19), so the encryption hides nothing from it. In our "
            "rows the key is the client's, so that all of them keep the activations from the server; only those of "
            "`rank_bsgs` also keep the weights from the client.",
        ),
    ),
    Claim(
        name="chatglm2",
        title="ChatGLM2-6B: 1.61 s per token",
        sources=(
            Source(
                name="arXiv:2501.01672v2 (Zhang, Zheng, Bao), abstract",
                url="https://arxiv.org/abs/2501.01672v2",
                quote="Experimental results show the inference efficiency of our scheme reaches 1.61s/token which "
                "displays that the scheme has good practicality.",
            ),
            Source(
                name="a summary of that paper at sciencestack.ai",
                url="https://www.sciencestack.ai/paper/2501.01672",
                quote="practical throughput (1.61s per token for 1000 tokens) on ChatGLM2-6B with LoRA rank 8",
            ),
            Source(
                name="Danielfoojunwei/provenloop, README.md, section 19, on this paper",
                url=f"{_LOOP}/549da8faaf0a33f058a950dd1d954b13017f2930/README.md",
                quote="ChatGLM2-6B FHE | ChatGLM2-6B | Undisclosed | LoRA (CKKS, SEAL) | 0.62 | 2025",
            ),
            Source(
                name="huggingface/peft, src/peft/utils/constants.py",
                url="https://github.com/huggingface/peft/blob/00073fe85ca790515f0b70caa69bea4c477d9db7/src/peft/utils/constants.py",
                quote='"chatglm": ["query_key_value"]',
            ),
        ),
        work="Inference of ChatGLM2-6B whose LoRA matrices stay at the server, under CKKS. Of the paper only the "
        "abstract, and what others say of it, could be read: its hardware, threads, CKKS parameters, the matrices "
        "that it adapts, and whether 1.61 s is computing alone, are not known here.",
        published=(
            {
                "work": "the paper",
                "modules": "not known",
                "tokens": "1000",
                "sanitised": "not known",
                "ms/token": "1610",
            },
        ),
        columns=_TIMES,
        modules=28,
        variants=(
            *(
                Variant(
                    name=f"private_{tokens}",
                    label="`rank_bsgs`, private weights",
                    packing="rank_bsgs",
                    shape="4096:4608:8",
                    tokens=tokens,
                    sanitize_bits=40,
                )
                for tokens in (1, 8, 64, 1000)
            ),
            Variant(
                name="two_round_1",
                label="`cheetah_two_round`, private weights",
                packing="cheetah_two_round",
                shape="4096:4608:8",
                sanitize_bits=40,
            ),
        ),
        same=(
            "**Assumed to be the same:** LoRA of rank 8 on the fused `query_key_value` of every layer, PEFT's default "
            "for this model: 4096 → 4608, as there are 32 heads and two groups of keys and of values, each of 128, in "
            "28 layers. One module was measured here, and its time, rotations and bytes are multiplied by 28: nothing "
            "is shared between layers, since each needs the result of the one before.",
            "**Not the same:** the paper's scheme also protects against a client who asks to learn the weights, by "
            "its Private Linear Layer, which adds work that is not done here: a client of ours learns up · down from "
            "about 4096 independent queries, in spite of sanitising. The base model's time is not in our rows, and it "
            "is not known whether it is in theirs. Messages are serialised but cross no network.",
            "**What it means:** a token of a batch shares rotations and ciphertexts with others. 1000 tokens at once "
            "is a prompt that is read; a token that is generated waits for the one before, and the row of 1 token is "
            "its time unless other sequences fill the batch.",
        ),
    ),
    Claim(
        name="tensafe_report",
        title="TenSafe: 85.3 ms and no rotation for a module of 4096",
        sources=(
            Source(
                name="Danielfoojunwei/TenSafe-Homormorphically-Encrypted-LoRA-Adaptation, "
                "docs/results/HELORA_BENCH.md, Production Configuration",
                url=f"{_TENSAFE}/7e0e74ad00184a1e00dfa769582292da7976aa3a/docs/results/HELORA_BENCH.md",
                quote="HE-LoRA (MOAI) | 85.3 | 5.4 | 0 | 2 | 1.5e-4",
            ),
            Source(
                name="the same, Ciphertext Size",
                url=f"{_TENSAFE}/7e0e74ad00184a1e00dfa769582292da7976aa3a/docs/results/HELORA_BENCH.md",
                quote="Single ciphertext | ~32 KB",
            ),
        ),
        work="One LoRA delta of hidden size 4096 and rank 16 at N=8192 with [60, 40, 40, 60], two levels, 10 trials. "
        "The document names neither a machine nor a library, and its script (`bench/bench_helora.py`) could not be "
        "read; of the gated variant, further down, it says that it was simulated.",
        published=(
            {
                "work": "TenSafe, HE-LoRA (MOAI)",
                "modules": "1",
                "tokens": "1",
                "N": "8192",
                "modulus bits": "60+40+40+60",
                "ms/token": "85.3",
                "rotations/token": "0",
                "up/token": "~32 KB",
                "down/token": "~32 KB",
            },
        ),
        columns=_TIMES,
        variants=(
            Variant(
                name="rank_bsgs",
                label="`rank_bsgs`, their parameters",
                packing="rank_bsgs",
                shape="4096:4096:16",
                params=_chain(8192),
            ),
            Variant(
                name="private",
                label="`rank_bsgs`, private weights",
                packing="rank_bsgs",
                shape="4096:4096:16",
                sanitize_bits=40,
            ),
            Variant(
                name="zero_moai",
                label="`zero_moai`, their parameters",
                packing="zero_moai",
                shape="4096:4096:16",
                params=_chain(8192),
            ),
            Variant(
                name="cpmm",
                label="`cpmm`, private weights (counted, not run)",
                packing="cpmm",
                shape="4096:4096:16",
                sanitize_bits=40,
                timed=False,
            ),
        ),
        same=(
            "**The same:** shape, rank, ring and modulus, and two products one after the other (`rank_bsgs`).",
            "**Not the same:** whether theirs was encrypted at all is not known here. A token of 4096 features takes "
            "every slot of N=8192. If it is in one ciphertext, then two products without a rotation bring no value "
            "to the slot of another, so that no sum over features can have been formed under encryption. What needs "
            "no rotation in slots is `zero_moai`, which leaves the sums and `up` to the key holder, or `cpmm`, true "
            "column packing, with a ciphertext for each feature: its slots are for thousands of tokens, and a single "
            "one pays for all of them, as the bytes of its row show.",
            "A ciphertext at these parameters is larger than the 32 KB that are stated: two polynomials of 8192 "
            "coefficients for each of three primes. `rank_bsgs` uploads one, of which one polynomial is sent as a "
            "seed, and compressed.",
        ),
    ),
    Claim(
        name="llama_rotations",
        title="TenSafe: 5,376, 1,344 and 168 rotations per token for Llama 8B",
        sources=(
            Source(
                name="Danielfoojunwei/TenSafe-Homormorphically-Encrypted-LoRA-Adaptation, BENCHMARK_LLAMA8B_REPORT.md, "
                "Theoretical Analysis (Cost Model Estimates)",
                url=f"{_TENSAFE}/0195e116f14d738d3e41ed1bac5cc85c7533f8e5/BENCHMARK_LLAMA8B_REPORT.md",
                quote="Normal HE-LoRA | 16 | 1 | 0.18 | 0.18 | 5,444 | 5,376 | 2",
            ),
            Source(
                name="the same",
                url=f"{_TENSAFE}/0195e116f14d738d3e41ed1bac5cc85c7533f8e5/BENCHMARK_LLAMA8B_REPORT.md",
                quote="SIMD Batching (Ours) | 16 | 1 | 0.58 | 0.58 | 1,725 | 1,344 | 2",
            ),
            Source(
                name="the same",
                url=f"{_TENSAFE}/0195e116f14d738d3e41ed1bac5cc85c7533f8e5/BENCHMARK_LLAMA8B_REPORT.md",
                quote="16 | 8 | 4.63 | 37.07 | 216 | 168 | 2",
            ),
            Source(
                name="the same, LoRA without Regret Parameters",
                url=f"{_TENSAFE}/0195e116f14d738d3e41ed1bac5cc85c7533f8e5/BENCHMARK_LLAMA8B_REPORT.md",
                quote="Total LoRA projections | 224 (7 × 32 layers)",
            ),
        ),
        work="No run: a cost model's estimates, as the report's heading says, for 224 adapted projections of hidden "
        "size 4096. Its profile for this model has N=32768.",
        published=(
            {"work": "“Normal HE-LoRA”", "modules": "224", "tokens": "1", "rotations/token": "5376"},
            {
                "work": "“SIMD Batching (Ours)”",
                "modules": "224",
                "tokens": "1",
                "N": "32768",
                "rotations/token": "1344",
            },
            {
                "work": "“SIMD Batching (Ours)”",
                "modules": "224",
                "tokens": "8",
                "N": "32768",
                "rotations/token": "168",
            },
        ),
        columns=_COUNTS,
        modules=224,
        variants=(
            Variant(
                name="halevi_shoup_bsgs",
                label="`halevi_shoup_bsgs`, the merged matrix",
                packing="halevi_shoup_bsgs",
                shape="4096:4096:16",
                timed=False,
            ),
            *(
                Variant(
                    name=f"rank_bsgs_{tokens}",
                    label="`rank_bsgs`, private weights",
                    packing="rank_bsgs",
                    shape="4096:4096:16",
                    tokens=tokens,
                    sanitize_bits=40,
                    timed=False,
                )
                for tokens in (1, 8, 64)
            ),
            Variant(
                name="rank_bsgs_8_theirs",
                label="`rank_bsgs`, private weights, their ring",
                packing="rank_bsgs",
                shape="4096:4096:16",
                tokens=8,
                ring_degree=32768,
                sanitize_bits=40,
                timed=False,
            ),
        ),
        same=(
            "**The same:** the number of modules, rank 16, and hidden size 4096 for all of them, as the report has "
            "it. The model's own modules differ: k and v are narrower, gate, up and down wider. Our counts are of "
            "plans that the ledger of every run is held to; one module's are multiplied by 224, without what modules "
            "of the same input could share.",
            "**Not the same:** theirs are counts of a model of costs, not of a program. Divided by 224, they are 24, "
            "6 and 0.75 rotations per module and token. The next section shows what the microkernel, of which the "
            "report is, computes with so few.",
        ),
    ),
    Claim(
        name="packing_rotations",
        title="TenSafe: no rotation in a block, log₂(blocks) across blocks",
        sources=(
            Source(
                name="Danielfoojunwei/TenSafe-Homormorphically-Encrypted-LoRA-Adaptation, "
                "he_lora_microkernel/docs/PACKING.md, Rotation Requirements",
                url=f"{_KERNEL}/docs/PACKING.md",
                quote="With MOAI CPMM: 0 rotations within a block.",
            ),
            Source(
                name="the same, Example (hidden_size, batch_size, block_size, blocks, cross-block rotations)",
                url=f"{_KERNEL}/docs/PACKING.md",
                quote="4096 | 4 | 512 | 8 | 3",
            ),
            Source(
                name="he_lora_microkernel/docs/ARCHITECTURE.md, Rotation Budget",
                url=f"{_KERNEL}/docs/ARCHITECTURE.md",
                quote="'rotations_per_token': 16,   # R_max",
            ),
            Source(
                name="he_lora_microkernel/runtime/executor.py, load_weights",
                url=f"{_KERNEL}/runtime/executor.py",
                quote="Sum across rank for CPMM",
            ),
            Source(
                name="the same file at another commit, execute_token",
                url=f"{_TENSAFE}/6fbbd6072514617572d71680e0f14bc35f3e03a6/he_lora_microkernel/runtime/executor.py",
                quote="For simulation mode with pre-computed AB, compute directly",
            ),
        ),
        work="Rotations that the packing is said to need for one module, by its documents; their example states no "
        "rank. The executor multiplies each block once with a plaintext for `down` and once with one for `up`.",
        published=(
            {"work": "documented, hidden size 512", "tokens": "8", "rotations/run": "0"},
            {"work": "documented, hidden size 1024", "tokens": "8", "rotations/run": "1"},
            {"work": "documented, hidden size 4096", "tokens": "4", "rotations/run": "3"},
            {"work": "documented budget", "rotations/token": "≤ 16"},
        ),
        columns=_ERRORS,
        variants=(
            *(
                Variant(
                    name=f"exact_{size}",
                    label=f"`rank_bsgs`, hidden size {size}, rank 16",
                    packing="rank_bsgs",
                    shape=f"{size}:{size}:16",
                    tokens=tokens,
                )
                for size, tokens in ((512, 8), (1024, 8), (4096, 4))
            ),
            Variant(
                name="summed_rank",
                label="their executor's formula in the clear, hidden size 1024, rank 16",
                shape="1024:1024:16",
                tokens=8,
                formula="summed_rank",
            ),
            Variant(
                name="summed_rows",
                label="its formula at the other commit, in the clear, the same module",
                shape="1024:1024:16",
                tokens=8,
                formula="summed_rows",
            ),
        ),
        same=(
            "**Not the same:** the counts are those of another function. As `load_weights` fills the plaintexts, the "
            "slot of feature c holds `sum(down[:, c])` in one and `sum(up[c, :])` times α/r in the other, the rank "
            "summed away, and `execute_token` multiplies and adds ciphertexts without ever rotating one. So feature "
            "c of its result is feature c of x times those two sums, and depends on no other feature. At the other "
            "commit, the path for encrypted backends gives x[c] · `sum((up @ down)[c, :])` instead, and the "
            "simulated backend multiplies activations and weights in the clear and records costs beside it. The last "
            "two rows apply both formulas to the same module and activations as the row of hidden size 1024: where "
            "the largest error is about as large as Δ or larger, the result is not Δ.",
            "Ciphertexts of several blocks add up without any rotation. What costs rotations is the sum over features "
            "within a ciphertext, which those counts leave out and `rank_bsgs` forms. Its batch layout, feature by "
            "feature with tokens side by side, is the one that their document describes: tokens of a ciphertext share "
            "its rotations.",
        ),
    ),
)


def _summed_rank(module: LoRAModule, x: Vector) -> Vector:
    result: Vector = x * module.down.sum(axis=0) * module.scaled_up.sum(axis=1)
    return result


def _summed_rows(module: LoRAModule, x: Vector) -> Vector:
    result: Vector = x * (module.scaled_up @ module.down).sum(axis=1)
    return result


FORMULAS: Mapping[str, Callable[[LoRAModule, Vector], Vector]] = {
    "summed_rank": _summed_rank,
    "summed_rows": _summed_rows,
}
"""What the executor of ``he_lora_microkernel`` computes, by its code at two commits; both for square modules."""

_NO_PLAN = {"digest": "", "ring_degree": 1, "modulus_bits": (), "scale_bits": (), "levels": 0, "security": "none"}


def wanted() -> Iterator[tuple[Claim, Variant]]:
    """Every variant, in the order of the page."""
    for claim in CLAIMS:
        for variant in claim.variants:
            yield claim, variant


def plan_of(variant: Variant) -> Plan:
    """The plan of a variant for what the backend can do.

    Raises:
        HeloraError: The backend is unusable, or it or the packing refuses the variant.
    """
    manager = get_manager()
    backend = manager.load_backend(BACKEND)
    plan = compile_plan(
        ModuleShape.parse(variant.shape),
        manager.load_packing(variant.packing),
        tokens=variant.tokens,
        params=variant.params,
        ring_degree=variant.ring_degree,
        sanitize_bits=variant.sanitize_bits,
        free_scales=backend.capabilities.free_plaintext_scale,
        noise_model=backend.capabilities.noise_model,
        private_weights=False,
    )
    require_capabilities(backend, plan)
    return plan


def _work(shape: str, tokens: int) -> tuple[LoRAModule, Vector]:
    parsed = ModuleShape.parse(shape)
    return synthetic_module(parsed, seed=1), synthetic_activations(parsed, tokens, seed=2)


def row_of(claim: Claim, variant: Variant, of: Origin) -> ClaimRow:
    """Count a variant and, if it is timed, run it.

    Raises:
        HeloraError: It cannot be planned or run here.
    """
    row = ClaimRow(
        claim=claim.name,
        variant=variant.name,
        cell=Cell(backend=BACKEND, packing=variant.packing, shape=variant.shape, tokens=variant.tokens),
        sanitize_bits=variant.sanitize_bits,
        given_params=variant.params is not None,
        leakage="",
        counts={},
        metrics={},
        provenance=provenance(of, BACKEND, _NO_PLAN),
    )
    if variant.formula:
        metrics = {"relative_error": relative_error(variant)}
        return msgspec.structs.replace(row, cell=msgspec.structs.replace(row.cell, backend=""), metrics=metrics)
    plan = plan_of(variant)
    counts = counts_of(plan)
    runs = -(-variant.tokens // plan.tokens_per_run)
    metrics = {
        "rotations_per_token": runs * counts["rotations"] / variant.tokens,
        "ct_pt_per_token": runs * counts["ct_pt"] / variant.tokens,
        "bytes_up_per_token": runs * counts["bytes_up"] / variant.tokens,
        "bytes_down_per_token": runs * counts["bytes_down"] / variant.tokens,
    }
    if variant.timed:
        metrics |= _timed(plan, variant)
    return msgspec.structs.replace(
        row,
        leakage=plan.leakage_label,
        counts=counts,
        metrics={name: round(value, 4) for name, value in metrics.items()},
        provenance=provenance(of, BACKEND, plan_facts(plan)),
    )


def relative_error(variant: Variant) -> float:
    """The largest error of a formula in the clear, over the largest of Δ; the same wherever it is computed."""
    module, x = _work(variant.shape, variant.tokens)
    delta = module.reference_delta(x)
    error = np.max(np.abs(FORMULAS[variant.formula](module, x) - delta))
    return round(float(error / np.max(np.abs(delta))), 3)


def _timed(plan: Plan, variant: Variant) -> dict[str, float]:
    module, x = _work(variant.shape, variant.tokens)
    ledger = Ledger()
    client, server = open_sessions(
        get_manager().load_backend(BACKEND),
        plan.params,
        plan.rotation_steps,
        ledger=ledger,
        public_key=plan.needs_public_key,
    )
    constants = encode_constants(plan, module, server.encoder)
    owner = module if plan.packing.client_finishes else None

    def run() -> ModuleRun:
        return run_module(plan, constants, client, server, ledger, x, client_module=owner)

    runs = [run() for _ in range(RUNS + 1)]
    delta = module.reference_delta(x)
    timed = runs[1:]

    def ms_per_token(ns: Iterable[int]) -> float:
        return statistics.median(ns) / 1e6 / variant.tokens

    return {
        "ms_per_token": ms_per_token(each.times.total for each in timed),
        "encrypt_ms_per_token": ms_per_token(each.times.encrypt for each in timed),
        "compute_ms_per_token": ms_per_token(each.times.compute for each in timed),
        "decrypt_ms_per_token": ms_per_token(each.times.decrypt for each in timed),
        "precision_bits": min(precision_bits(each.delta, delta) for each in runs),
        "bytes_up_per_token": runs[-1].bytes_up / variant.tokens,
        "bytes_down_per_token": runs[-1].bytes_down / variant.tokens,
        "steps": RUNS,
    }


def measure(step: Callable[[], object] = lambda: None) -> list[ClaimRow]:
    """Rows of all variants, each from a process of its own that is allowed one thread; some two minutes.

    Raises:
        HeloraError: The backend is unusable here.
    """
    of = origin(REPO)
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    rows = []
    for i, _ in enumerate(wanted()):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            rows.append(process.submit(_measured, i, of).result())
        step()
    return rows


def _measured(number: int, of: Origin) -> ClaimRow:
    return row_of(*list(wanted())[number], of)


def read_rows(path: Path = DATA) -> list[ClaimRow]:
    """The committed rows.

    Raises:
        RowsUnreadable: The file is missing, or a line is no row.
    """
    try:
        return [msgspec.json.decode(line, type=ClaimRow) for line in path.read_bytes().splitlines()]
    except (OSError, msgspec.DecodeError) as error:
        raise RowsUnreadable(
            f"{path} has no rows that can be read: {error}.", hint="Measure them: helora bench claims measure."
        ) from error


def write_rows(rows: Iterable[ClaimRow], path: Path = DATA) -> None:
    """Replace the file."""
    with replacing(path) as file:
        file.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def by_variant(rows: Iterable[ClaimRow]) -> dict[tuple[str, str], ClaimRow]:
    """The row of each claim and variant."""
    return {(row.claim, row.variant): row for row in rows}


def problems(rows: Sequence[ClaimRow], page: str) -> list[str]:
    """What does not hold, in words; nothing if all does."""
    found = by_variant(rows)
    known = {(claim.name, variant.name): variant for claim, variant in wanted()}
    broken = [
        f"{claim} {variant}: there is no row; run measure" for claim, variant in known if (claim, variant) not in found
    ]
    broken += [
        f"{claim} {variant}: nothing measures this row any more"
        for claim, variant in found
        if (claim, variant) not in known
    ]
    for each in known.keys() & found.keys():
        broken += [f"{each[0]} {each[1]}: {what}" for what in _stale(known[each], found[each])]
    if not any("there is no row" in line for line in broken) and rendered(rows) != page:
        broken.append(f"docs/{PAGE.name} is not what the rows give; run render")
    return sorted(broken)


def _stale(variant: Variant, row: ClaimRow) -> Iterator[str]:
    """How a row differs from what the code gives, clocks and noise apart."""
    cell = (row.cell.packing, row.cell.shape, row.cell.tokens, row.sanitize_bits, row.given_params)
    if cell != (variant.packing, variant.shape, variant.tokens, variant.sanitize_bits, variant.params is not None):
        yield "the row is of other work; run measure"
        return
    if variant.formula:
        error = relative_error(variant)
        if row.metrics.get("relative_error") != error:
            yield f"relative error {row.metrics.get('relative_error')} in the row, {error} by the code"
        return
    plan = plan_of(variant)
    now = counts_of(plan)
    for name in sorted(now.keys() | row.counts.keys()):
        if now.get(name) != row.counts.get(name):
            yield f"{name} {row.counts.get(name)} in the row, {now.get(name)} by the code"
    runs = -(-variant.tokens // plan.tokens_per_run)
    for name, counted in (("rotations_per_token", "rotations"), ("ct_pt_per_token", "ct_pt")):
        per_token = round(runs * now[counted] / variant.tokens, 4)
        if row.metrics.get(name) != per_token:
            yield f"{name} {row.metrics.get(name)} in the row, {per_token} by the code"
    if row.leakage != plan.leakage_label:
        yield f"the key holder learns {row.leakage} in the row, {plan.leakage_label} by the code"
    if variant.timed and "ms_per_token" not in row.metrics:
        yield "the row has no time; run measure"
    if row.metrics.get("precision_bits", DEFAULT_PRECISION_BITS) < DEFAULT_PRECISION_BITS:
        yield f"Δ has {row.metrics['precision_bits']} bits of precision, and plans promise {DEFAULT_PRECISION_BITS:g}"


def rendered(rows: Sequence[ClaimRow]) -> str:
    """The page."""
    found = by_variant(rows)
    parts = [
        "<!-- Written by `helora bench claims render`: edit harness/claims.py instead. -->",
        _INTRODUCTION,
        _where(rows),
    ]
    for claim in CLAIMS:
        parts += [f"## {claim.title}", "Published:", _quotes(claim), f"The work: {claim.work}"]
        parts += [_table(claim, [found[claim.name, variant.name] for variant in claim.variants])]
        parts += ["### Same work?", *claim.same]
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = f"""# Published figures beside ours

Figures that others have published on LoRA under homomorphic encryption, each with its source, and beside it the nearest
work that this repository does, measured. Published figures are quotations, read on {READ}; a dash means that the source
says nothing. Ours come from committed rows (`harness/claims.jsonl`), and this page is made from them by command.

Hardware differs, and is not always stated, so **no ratio of a published time and one of ours is a speed-up**: neither
was measured on the other's machine. Rotations, bytes, and what the key holder learns do compare. Ours are wall times of
packing, encrypting, serialising, computing and decrypting, client and server on one machine; keys are made and weights
encoded beforehand, the base model is not run, and there is no network. Modules are synthetic, of the sizes of trained
ones, and the result of every run is held against the adapter in the clear: *bits* is −log₂ of the largest error over
the largest of Δ, at worst. *Security* is the highest level whose bound in our
[table](parameters.md) the modulus keeps. *Sanitised* results are re-randomised and flooded so that they are within
2^−bits, statistically, of what depends on Δ alone; `nothing*` in the last column means that a plan would have to be
sanitised for that, and is not."""


def _where(rows: Sequence[ClaimRow]) -> str:
    """Sentences on what measured the rows; one for each commit and machine."""
    places: dict[str, None] = {}
    for row in rows:
        of = row.provenance
        changed = ", with changes that it does not have" if of.dirty else ""
        places[
            f"{of.library} {of.library_version} on {of.cpu_model} ({of.machine}), "
            f"{of.threads} thread{'s' * (of.threads != 1)}, Python {of.python}, commit {of.commit[:8]}{changed}, "
            f"{of.date.date()}"
        ] = None
    return f"Measured with {'; and '.join(places)}; times are medians of {RUNS} runs."


def _quotes(claim: Claim) -> str:
    return "\n".join(f"- “{_escaped(source.quote)}” – [{source.name}]({source.url})" for source in claim.sources)


def _escaped(quote: str) -> str:
    return quote.replace("|", r"\|").replace("*", r"\*").replace("[", r"\[").replace("]", r"\]")


_WORDS = ("work", "modulus bits", "security", "sanitised", "key holder learns")
"""Columns that are not numbers."""


def _table(claim: Claim, rows: Sequence[ClaimRow]) -> str:
    lines = [list(claim.columns), ["---" if name in _WORDS else "--:" for name in claim.columns]]
    for published in claim.published:
        lines.append([f"*published:* {published['work']}", *(published.get(name, "–") for name in claim.columns[1:])])
    for variant, row in zip(claim.variants, rows, strict=True):
        cells = _cells(variant, row, claim.modules)
        lines.append([cells.get(name, "–") for name in claim.columns])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(variant: Variant, row: ClaimRow, modules: int) -> dict[str, str]:
    """What a row says, by heading; whatever grows with the modules is multiplied by their number."""
    metrics, of = row.metrics, row.provenance
    cells = {"work": variant.label, "modules": str(modules), "tokens": str(variant.tokens)}
    if variant.formula:
        return cells | {"rotations/token": "0", "largest error / largest Δ": f"{metrics['relative_error']:.2f}"}
    cells |= {
        "N": str(of.ring_degree),
        "modulus bits": "+".join(map(str, of.modulus_bits)),
        "security": of.security,
        "sanitised": "no" if row.sanitize_bits is None else f"{row.sanitize_bits} bits",
        "rotations/run": str(row.counts["rotations"] * modules),
        "rotations/token": _amount(metrics["rotations_per_token"] * modules),
        "ct×pt/token": _amount(metrics["ct_pt_per_token"] * modules),
        "up/token": _size(metrics["bytes_up_per_token"] * modules),
        "down/token": _size(metrics["bytes_down_per_token"] * modules),
        "key holder learns": row.leakage,
    }
    if "ms_per_token" in metrics:
        bits = metrics["precision_bits"]
        cells |= {
            "ms/token": _amount(metrics["ms_per_token"] * modules),
            "bits": f"{bits:.1f}",
            "largest error / largest Δ": f"{2.0**-bits:.0e}",
        }
    return cells


def _amount(value: float) -> str:
    """Three digits, and no fewer than stand before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _size(count: float) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{_amount(count / size)} {unit}"
    return f"{_amount(count)} B"


def load() -> tuple[list[ClaimRow], str]:
    """The committed rows and page; an empty page if there is none.

    Raises:
        RowsUnreadable: The rows cannot be read.
    """
    return read_rows(), PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""


def as_document(rows: Sequence[ClaimRow], broken: Sequence[str]) -> dict[str, Any]:
    """What ``check --json`` prints."""
    return {"schema": SCHEMA, "claims": [claim.name for claim in CLAIMS], "rows": rows, "problems": list(broken)}
