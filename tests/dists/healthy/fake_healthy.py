"""A plugin that implements every hook and does nothing wrong."""

from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec, PackingSpec

events = []
plans = []


@hookimpl
def helora_backends():
    yield BackendSpec(
        name="fake",
        target="fake_healthy_backend:FakeBackend",
        summary="stands in for a backend",
        library="pluggy",
        provides_security=False,
    )


@hookimpl
def helora_packings():
    return [PackingSpec(name="fake_packing", target="fake_healthy_backend:FakePacking", summary="stands in for one")]


@hookimpl
def helora_cli_commands():
    import click  # here, so that to list backends costs no command line

    yield click.Command("fake-command", help="Do nothing.")


@hookimpl
def helora_telemetry_sinks():
    return (events.append,)


@hookimpl
def helora_plan_compiled(plan):
    plans.append(plan)
