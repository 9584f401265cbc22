"""The tolerant plugin host: a broken plugin is a line in a report, never the end of the program.

``get_manager()`` is the host of the process. It lists what the installed plugins offer, loads a backend or a packing
when it is first used, and records problems in ``failures``.

A name that two plugins claim goes to neither until the user decides: if one won silently, encrypted work would run on a
library that nobody chose. The exception is helora-core, which keeps its names, so that installing a plugin never
changes what an existing plan does.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from helora_core.errors import BackendUnavailable, HeloraError, PackingUnavailable, PluginConflict, PluginLoadError
from helora_core.host.loading import (
    CORE,
    LoadedPlugin,
    choose,
    did_you_mean,
    find_entry_points,
    load_plugin,
    refuse_rivals,
)
from helora_core.host.records import (
    Origin,
    PluginFailure,
    RegisteredBackend,
    RegisteredPacking,
    Stage,
    run_plugin_code,
)
from helora_core.specs import BackendSpec, PackingSpec, TelemetrySink

if TYPE_CHECKING:
    import click

    from helora_core.backend.protocol import Backend
    from helora_core.compiler.plan import Plan
    from helora_core.packing.protocol import Packing

__all__ = ["PluginFailure", "PluginManager", "RegisteredBackend", "RegisteredPacking", "get_manager"]

# Failures at these stages may be the reason why a name is unknown; the others concern known names.
_HIDING: tuple[Stage, ...] = ("discover", "import", "validate", "call")


class PluginManager:
    """The backends, packings and other things that a set of plugins offers, and the plugins' failures.

    Args:
        plugins: The plugins in the order in which they are called, core first.
        failures: Failures from before.
    """

    def __init__(self, plugins: Iterable[LoadedPlugin], failures: Iterable[PluginFailure] = ()) -> None:
        self._plugins = tuple(plugins)
        self._failures: dict[tuple[Origin, Stage, str], PluginFailure] = {}
        self._conflicts: dict[tuple[str, str], PluginConflict] = {}
        self._instances: dict[tuple[str, str], Any] = {}
        # Two threads must get the same backend: ciphertexts of one instance are foreign to another. Reentrant, because
        # a backend that wraps another loads it from its own constructor.
        self._lock = threading.RLock()
        for failure in failures:
            self._report(failure)
        self._backends = {
            name: RegisteredBackend(origin, spec, self._report)
            for name, (origin, spec) in self._settled("backend", "helora_backends", BackendSpec).items()
        }
        self._packings = {
            name: RegisteredPacking(origin, spec)
            for name, (origin, spec) in self._settled("packing", "helora_packings", PackingSpec).items()
        }

    @classmethod
    def discover(
        cls, entry_points: Iterable[EntryPoint] | None = None, environ: Mapping[str, str] | None = None
    ) -> PluginManager:
        """Load the installed plugins.

        Args:
            entry_points: Those of group ``helora``; by default all that are installed.
            environ: The variables, by default ``os.environ``: ``HELORA_PLUGINS`` lists the plugins to load beside core,
                comma-separated (empty for core alone), and ``HELORA_TRACE_PLUGINS`` set to 1 prints which plugins are
                loaded and how long each takes.
        """
        environ = os.environ if environ is None else environ
        unreadable: list[PluginFailure] = []
        if entry_points is None:
            entry_points, unreadable = find_entry_points()
        pins = environ.get("HELORA_PLUGINS")
        pinned = None if pins is None else {pin.strip() for pin in pins.split(",")} - {""}
        chosen, refused = choose(entry_points, pinned)
        load = _load_with_trace if environ.get("HELORA_TRACE_PLUGINS") == "1" else load_plugin
        outcomes = [load(entry_point) for entry_point in chosen]
        return cls(
            [outcome for outcome in outcomes if isinstance(outcome, LoadedPlugin)],
            unreadable + refused + [outcome for outcome in outcomes if isinstance(outcome, PluginFailure)],
        )

    @property
    def plugins(self) -> tuple[Origin, ...]:
        """The plugins that were loaded, core first."""
        return tuple(plugin.origin for plugin in self._plugins)

    @property
    def failures(self) -> tuple[PluginFailure, ...]:
        """The failures so far, each listed once.

        Those of discovery, imports and specs are complete from the start; the rest (availability checks, loads,
        commands, sinks and observers) are added when they happen.
        """
        return tuple(self._failures.values())

    def backends(self) -> dict[str, RegisteredBackend]:
        """The backends by name, including those that cannot be used here. Listing them imports none of their code."""
        return dict(self._backends)

    def packings(self) -> dict[str, RegisteredPacking]:
        """The packings by name."""
        return dict(self._packings)

    def load_backend(self, name: str) -> Backend:
        """The backend of that name, always the same instance.

        Raises:
            BackendUnavailable: No plugin offers it, or it cannot be used here.
            PluginConflict: Two plugins offer it.
            PluginLoadError: Its target could not be imported or instantiated.
        """
        registered = self._backends.get(name)
        if registered is None:
            raise self._unknown("backend", name, self._backends, BackendUnavailable)
        if registered.availability is not None:
            raise BackendUnavailable(
                f"backend {name!r} of {registered.origin} cannot be used here: {registered.availability}",
                hint=_way_to_a_backend(registered, self._backends),
            )
        backend: Backend = self._instance("backend", registered)
        return backend

    def load_packing(self, name: str) -> Packing:
        """The packing of that name, always the same instance.

        Raises:
            PackingUnavailable: No plugin offers it.
            PluginConflict: Two plugins offer it.
            PluginLoadError: Its target could not be imported or instantiated.
        """
        registered = self._packings.get(name)
        if registered is None:
            raise self._unknown("packing", name, self._packings, PackingUnavailable)
        packing: Packing = self._instance("packing", registered)
        return packing

    def cli_commands(self) -> tuple[click.Command, ...]:
        """The commands that plugins add to ``helora``."""
        import click  # here, so that a program that only computes does not load it

        return tuple(command for _, command in self._settled("command", "helora_cli_commands", click.Command).values())

    def telemetry_sinks(self) -> tuple[TelemetrySink, ...]:
        """The receivers of run-time events."""
        return tuple(sink for _, sink in self._offers("helora_telemetry_sinks", "a callable", callable))

    def notify_plan_compiled(self, plan: Plan) -> None:
        """Show the plan to every plugin that observes plans. An observer that raises is reported and stops nothing."""
        for plugin in self._plugins:
            observe = functools.partial(plugin.hooks.helora_plan_compiled, plan=plan)
            try:
                run_plugin_code(observe, f"helora_plan_compiled of {plugin.origin}", _tell_author(plugin.origin))
            except PluginLoadError as error:
                self._report(PluginFailure(plugin.origin, "call", error))

    def _report(self, failure: PluginFailure) -> None:
        """Record a failure once: an observer that always raises does so at every plan."""
        self._failures.setdefault((failure.origin, failure.stage, failure.reason), failure)

    def _offers(self, hook: str, wanted: str, accepts: Callable[[object], bool]) -> list[tuple[Origin, Any]]:
        """All that the plugins yield from a hook. A plugin that raises, or yields anything else, is reported."""
        offers: list[tuple[Origin, Any]] = []
        for plugin in self._plugins:
            doing, hint = f"{hook} of {plugin.origin}", _tell_author(plugin.origin)
            try:
                offered = run_plugin_code(functools.partial(_gather, getattr(plugin.hooks, hook)), doing, hint)
                strange = [type(offer).__name__ for offer in offered if not accepts(offer)]
                if strange:
                    raise PluginLoadError(f"{doing} gave {strange[0]}, not {wanted}", hint=hint)
                offers += [(plugin.origin, offer) for offer in offered]
            except PluginLoadError as error:
                self._report(PluginFailure(plugin.origin, "call", error))
        return offers

    def _settled(self, kind: str, hook: str, payload: type[Any]) -> dict[str, tuple[Origin, Any]]:
        """All that the plugins yield from a hook, by name; if two claim a name, only core may keep it."""
        claims: defaultdict[str, list[tuple[Origin, Any]]] = defaultdict(list)
        wanted = f"a {payload.__name__} with a name"
        for origin, offer in self._offers(hook, wanted, lambda offer: isinstance(offer, payload) and bool(offer.name)):
            claims[offer.name].append((origin, offer))
        settled = {}
        for name, rivals in claims.items():
            if len(rivals) == 1 or rivals[0][0].plugin == CORE.name:
                settled[name] = rivals[0]
            if len(rivals) > 1:
                self._refuse(kind, name, [origin for origin, _ in rivals])
        return settled

    def _refuse(self, kind: str, name: str, claimants: Sequence[Origin]) -> None:
        others = set(claimants[1:])
        pins = [each.plugin for each in self.plugins if each.plugin != CORE.name and each not in others]
        way_out = f", or name the plugins to load, as in HELORA_PLUGINS={','.join(pins)}"
        for failure in refuse_rivals(kind, name, claimants, "register", way_out):
            self._report(failure)
            self._conflicts[kind, name] = PluginConflict(failure.reason, hint=failure.next_step)

    def _unknown(self, kind: str, name: str, known: Mapping[str, object], error_type: type[HeloraError]) -> HeloraError:
        """The refusal of an unregistered name, with close names and the failures that may be the reason."""
        conflict = self._conflicts.get((kind, name))
        if conflict is not None:
            return PluginConflict(conflict.message, hint=conflict.hint)
        reasons = dict.fromkeys(failure.reason for failure in self.failures if failure.stage in _HIDING)
        return error_type(
            f"no loaded plugin offers the {kind} {name!r}; there are: {', '.join(known) or 'none'}"
            + "".join(f"; {reason}" for reason in reasons),
            hint=f"{did_you_mean(name, ['auto', *known])}Choose one of those, or install the plugin that offers "
            f"{name!r} and, if HELORA_PLUGINS is set, add it there.",
        )

    def _instance(self, kind: str, registered: RegisteredBackend | RegisteredPacking) -> Any:
        """Import the target and call it, once; later calls return the same instance."""
        spec, origin = registered.spec, registered.origin
        with self._lock:
            if (kind, spec.name) not in self._instances:
                try:
                    self._instances[kind, spec.name] = run_plugin_code(
                        functools.partial(_instantiate, spec.target),
                        f"loading {spec.target}, the {kind} {spec.name!r} of {origin},",
                        f"Reinstall {origin.who} and the libraries it needs, or choose another {kind}.",
                    )
                except PluginLoadError as error:
                    self._report(PluginFailure(origin, "load", error))
                    raise
            return self._instances[kind, spec.name]


@functools.cache
def get_manager() -> PluginManager:
    """The plugin host of this process; the environment is read when this is first called."""
    return PluginManager.discover()


def _load_with_trace(entry_point: EntryPoint) -> LoadedPlugin | PluginFailure:
    started_ns = time.perf_counter_ns()
    outcome = load_plugin(entry_point)
    elapsed_ms = (time.perf_counter_ns() - started_ns) / 1e6
    verdict = f"failed to {outcome.stage}" if isinstance(outcome, PluginFailure) else "loaded"
    print(f"helora: {outcome.origin} {verdict} in {elapsed_ms:.1f} ms", file=sys.stderr)
    return outcome


def _tell_author(origin: Origin) -> str:
    return f"Tell the author of {origin.who}; until then, uninstall it or leave it out with HELORA_PLUGINS."


def _gather(hook: Callable[[], list[Iterable[Any]]]) -> list[Any]:
    """All items that a hook yields. pluggy returns one entry per implementation, and none for one returning None."""
    return [offer for answer in hook() for offer in answer]


def _instantiate(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)()


def _way_to_a_backend(refused: RegisteredBackend, known: Iterable[str]) -> str:
    others = ", ".join(name for name in known if name != refused.spec.name) or "none is installed"
    library = refused.spec.library
    if library and refused.library_version is None:
        how = "as said there" if "pip install" in str(refused.availability) else f"{library}, as its plugin's page says"
        return f"Install its library, {how}, or choose another backend ({others})."
    return f"Fix the problem named above, or choose another backend ({others})."
