"""A plugin that would put its own packing in the place of one of helora-core's."""

from helora_core.hookspecs import hookimpl
from helora_core.specs import PackingSpec


@hookimpl
def helora_packings():
    yield PackingSpec(name="rank_bsgs", target="unused:Unused", summary="not what anybody compiled a plan for")
