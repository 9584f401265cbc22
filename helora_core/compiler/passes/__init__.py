"""Program transformations, one a file; each takes a program and gives an equivalent one."""

from __future__ import annotations

from collections.abc import Callable

from helora_core.compiler.ir import Program
from helora_core.compiler.passes.drop_dead import drop_dead
from helora_core.compiler.passes.fuse_dots import fuse_dots
from helora_core.compiler.passes.merge_rotations import merge_rotations
from helora_core.compiler.passes.order_for_memory import order_for_memory
from helora_core.compiler.passes.rescale_late import rescale_late
from helora_core.compiler.passes.share_common import share_common

Pass = Callable[[Program], Program]

PASSES: tuple[Pass, ...] = (
    share_common,
    drop_dead,
    merge_rotations,
    rescale_late,
    fuse_dots,
    order_for_memory,
)
"""The pipeline, in order, after ``skip_zeros``, which knows the weights' zeros. Checks run after each of them."""
