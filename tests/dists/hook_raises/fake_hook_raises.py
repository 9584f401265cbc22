"""A plugin whose every hook raises, one of them after a first offer."""

from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec


@hookimpl
def helora_backends():
    yield BackendSpec(name="half_offered", target="unused:Unused", summary="", provides_security=False)
    raise RuntimeError("no second backend")


@hookimpl
def helora_packings():
    raise SystemExit(3)


@hookimpl
def helora_cli_commands():
    raise RuntimeError("no commands")


@hookimpl
def helora_telemetry_sinks():
    raise RuntimeError("no sinks")


@hookimpl
def helora_plan_compiled(plan):
    raise RuntimeError("cannot read this plan")
