"""The whole plugin contract: the hooks a plugin may implement, each with an example that the tests run.

A plugin is a module named in its distribution's metadata under the entry-point group ``helora``::

    [project.entry-points.helora]
    acme = "helora_acme"

It implements the hooks it needs, each marked with ``@hookimpl``, and leaves out the others. The prefix ``helora_`` is
kept for hooks: any other function with this prefix is rejected as a typo. ``helora_core.host.builtin`` uses the same
door for what helora-core brings itself; ``helora_core.host.manager`` is the host.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

from helora_core.specs import BackendSpec, PackingSpec, TelemetrySink

if TYPE_CHECKING:
    import click

    from helora_core.compiler.plan import Plan

PROJECT = "helora"
"""The name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def helora_backends() -> Iterable[BackendSpec]:
    """Offer CKKS backends. The library behind one is imported when it is first used, so only its target is named here.

    Example::

        from importlib.util import find_spec

        from helora_core.hookspecs import hookimpl
        from helora_core.specs import BackendSpec

        def availability():
            return None if find_spec("acmefhe") else "the library acmefhe is not installed"

        @hookimpl
        def helora_backends():
            yield BackendSpec(
                name="acme",
                target="helora_acme.backend:AcmeBackend",
                summary="CKKS on the Acme library",
                library="acmefhe",
                provides_security=True,
                availability=availability,
            )
    """
    raise NotImplementedError


@hookspec
def helora_packings() -> Iterable[PackingSpec]:
    """Offer ways of laying activations and weights out in ciphertexts.

    Example::

        from helora_core.hookspecs import hookimpl
        from helora_core.specs import PackingSpec

        @hookimpl
        def helora_packings():
            yield PackingSpec(
                name="acme_diagonal",
                target="helora_acme.packing:AcmeDiagonal",
                summary="diagonals, for ranks above 64",
            )
    """
    raise NotImplementedError


@hookspec
def helora_cli_commands() -> Iterable[click.Command]:
    """Add commands to ``helora``. This is called when the command line is built, never by a library call.

    Example::

        import click

        from helora_core.hookspecs import hookimpl

        @click.command("acme-devices")
        def acme_devices():
            "List the devices that Acme can use."
            click.echo("acme0")

        @hookimpl
        def helora_cli_commands():
            yield acme_devices
    """
    raise NotImplementedError


@hookspec
def helora_telemetry_sinks() -> Iterable[TelemetrySink]:
    """Offer receivers of run-time events, which carry names, counts and times, never values, weights or keys.

    Example::

        from helora_core.hookspecs import hookimpl

        def to_stdout(event):
            print(f"{event.name} took {event.elapsed_ns / 1e6:.1f} ms")

        @hookimpl
        def helora_telemetry_sinks():
            yield to_stdout
    """
    raise NotImplementedError


@hookspec
def helora_plan_compiled(plan: Plan) -> None:
    """Observe a plan that was just compiled. The plan cannot be changed here, and the return value is ignored.

    Example::

        from helora_core.hookspecs import hookimpl

        @hookimpl
        def helora_plan_compiled(plan):
            print("compiled", plan.digest)
    """
