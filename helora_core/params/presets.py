"""Two named parameter sets for depth 2, for callers that do not want the automatic choice.

Both have the chain 50-40-40 with a special prime of 60 bits: 190 bits in all, scale 2^40, over 12 bits of precision
for most LoRAs. They differ only in the ring, and so in security and cost.
"""

from __future__ import annotations

from helora_core.params.ckks import CKKSParams

FAST = CKKSParams(ring_degree=8192, data_bits=(50, 40, 40), special_bits=(60,), scale_bits=40)
"""128-bit security by the tables of 2024 and 2018 (limits 214, 218, and 202 against quantum computers): the smallest
ring that allows 190 bits. By the limits of ADPS16 it would take a ring of 16384."""

SAFE = CKKSParams(ring_degree=16384, data_bits=(50, 40, 40), special_bits=(60,), scale_bits=40)
"""256-bit security by the same tables (limits 230, 237, 220); twice the slots, slightly more than twice the time."""
