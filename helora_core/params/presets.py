"""Two named parameter sets for depth 2, for those who do not want the automatic choice.

Both carry the chain 60-40-40 with a special prime of 60 bits: 200 bits in all, scale 2^40, over 12 bits of precision
for any LoRA. They differ in the ring alone, hence in security and in cost.
"""

from __future__ import annotations

from helora_core.params.ckks import CKKSParams

FAST = CKKSParams(ring_degree=8192, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
"""128-bit security by both tables (limits 214 and 218): the smallest ring that allows 200 bits."""

SAFE = CKKSParams(ring_degree=16384, data_bits=(60, 40, 40), special_bits=(60,), scale_bits=40)
"""256-bit security by both tables (limits 230 and 237); twice the slots, somewhat over twice the time."""
