"""The meaning of a result row's metrics: label, unit, and which way is better.

asv knows only lower-is-better, so only such metrics are published to it. Precision and throughput have twins that
are: ``lost_bits`` and ``ms_per_token``.
"""

from __future__ import annotations

from enum import Enum

import msgspec

SIGNIFICAND_BITS = 53
"""Bits that a float64 result could have; ``lost_bits`` is how many of them are missing."""


class Better(Enum):
    """Which way a metric is better."""

    LOWER = "lower"
    HIGHER = "higher"
    UNKNOWN = "unknown"


class Metric(msgspec.Struct, frozen=True):
    """How to show a metric.

    Attributes:
        label: For people, without the unit.
        unit: Of the number in a row; empty for a pure count.
        better: Which way is better.
    """

    label: str
    unit: str
    better: Better = Better.LOWER


METRICS = {
    "ms_per_token": Metric("time", "ms/token"),
    "encrypt_ms_per_token": Metric("encrypt", "ms/token"),
    "compute_ms_per_token": Metric("compute", "ms/token"),
    "decrypt_ms_per_token": Metric("decrypt", "ms/token"),
    "predicted_ms_per_token": Metric("predicted time", "ms/token"),
    "lost_bits": Metric("lost bits", "bits"),
    "precision_bits": Metric("precision", "bits", Better.HIGHER),
    "tokens_per_second": Metric("throughput", "tokens/s", Better.HIGHER),
    "tokens_per_second_per_sequence": Metric("throughput of a sequence", "tokens/s", Better.HIGHER),
    "step_ms_p50": Metric("step, median", "ms"),
    "step_ms_p90": Metric("step, 90th percentile", "ms"),
    "step_ms_p99": Metric("step, 99th percentile", "ms"),
    "step_ms_max": Metric("step, longest", "ms"),
    "steps": Metric("steps measured", "", Better.UNKNOWN),
    "rounds": Metric("rounds", "", Better.UNKNOWN),
    "he_share": Metric("share of time inside the library", "", Better.UNKNOWN),
    "rotations_per_token": Metric("rotations", "per token"),
    "keyswitches_per_token": Metric("key switches", "per token"),
    "decompositions_per_token": Metric("decompositions", "per token"),
    "mod_downs_per_token": Metric("divisions by special primes", "per token"),
    "transforms_per_token": Metric("NTTs", "per token"),
    "rescales_per_token": Metric("rescales", "per token"),
    "ct_pt_per_token": Metric("ct×pt", "per token"),
    "ct_pt": Metric("ct×pt", "per run"),
    "adds_per_token": Metric("additions", "per token"),
    "encodes_per_token": Metric("encodings", "per token"),
    "encrypts_per_token": Metric("encryptions", "per token"),
    "decrypts_per_token": Metric("decryptions", "per token"),
    "live_ciphertexts": Metric("live ciphertexts, peak", "ciphertexts"),
    "rotation_keys": Metric("rotation keys", "keys"),
    "bytes_up_per_token": Metric("upload", "bytes/token"),
    "bytes_down_per_token": Metric("download", "bytes/token"),
    "bytes_ahead_up_per_token": Metric("upload ahead of time", "bytes/token"),
    "bytes_ahead_down_per_token": Metric("download ahead of time", "bytes/token"),
    "kept_bytes_per_token": Metric("kept by the client", "bytes/token"),
    "bytes_up": Metric("upload", "bytes"),
    "bytes_down": Metric("download", "bytes"),
    "bytes_keys": Metric("evaluation keys", "bytes"),
    "bytes_keys_per_token": Metric("evaluation keys", "bytes/token"),
    "peak_rss_bytes": Metric("peak memory", "bytes"),
}

COUNTS = {
    "rotations": "rotations_per_token",
    "keyswitches": "keyswitches_per_token",
    "rescales": "rescales_per_token",
    "ct_pt": "ct_pt_per_token",
    "additions": "adds_per_token",
    "encrypts": "encrypts_per_token",
    "decrypts": "decrypts_per_token",
}
"""A plan's counts, and the metric of each."""

PHASES = ("encrypt_ms_per_token", "compute_ms_per_token", "decrypt_ms_per_token")
"""The parts of ``ms_per_token``, in the order in which they happen."""

_UNITS = (
    ("_ms_per_token", "ms/token"),
    ("_bytes_per_token", "bytes/token"),
    ("_per_token", "per token"),
    ("_ms", "ms"),
    ("_us", "µs"),
    ("_ns", "ns"),
    ("_bytes", "bytes"),
)
"""Endings that identify a cost, longer ones before shorter ones."""


def metric(name: str) -> Metric:
    """The meaning of a name in a row's ``metrics``; for one that is not listed, by its ending, or else unknown."""
    if name in METRICS:
        return METRICS[name]
    # A micro row names an operation and a level, as in rotate_ms@2.
    stem, _, level = name.partition("@")
    for ending, unit in _UNITS:
        if stem.endswith(ending):
            label = stem.removesuffix(ending).replace("_", " ")
            return Metric(f"{label}, level {level}" if level else label, unit)
    return Metric(name.replace("_", " "), "", Better.UNKNOWN)


def lost_bits(precision_bits: float) -> float:
    """Bits of a float64 result that noise took; the lower-is-better twin of ``precision_bits``."""
    return SIGNIFICAND_BITS - precision_bits
