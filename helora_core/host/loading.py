"""Finds the installed plugins, imports each and checks its hooks; failures are returned as data.

``pluggy.PluginManager.load_setuptools_entrypoints`` is not used, for two reasons: it lets any exception of an entry
point through, so that one missing ``libX.so`` would take every backend away; and of two distributions with the same
entry-point name it silently drops one. Also, every plugin gets a pluggy host of its own: in a shared one, the first
implementation that raises ends the call for all plugins.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint

import pluggy

from helora_core import hookspecs
from helora_core.errors import PluginConflict, PluginLoadError
from helora_core.host.records import Origin, Originated, PluginFailure, Stage, run_plugin_code

CORE = EntryPoint(name="core", value="helora_core.host.builtin", group=hookspecs.PROJECT)
"""The entry point of helora-core itself. It is listed here because a checkout without metadata does not declare it."""

HOOKS = frozenset(name for name in vars(hookspecs) if name.startswith("helora_"))


@dataclass(frozen=True)
class LoadedPlugin(Originated):
    """A plugin whose hooks passed all checks.

    Attributes:
        hooks: Calls this plugin's implementations, and no other plugin's.
    """

    hooks: pluggy.HookRelay


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The question "Did you mean …?" with the closest known name and a space after it; empty if none is close."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}? " if near else ""


def origin_of(entry_point: EntryPoint) -> Origin:
    """The origin of an entry point: the distribution that declares it."""
    if entry_point.dist is None:
        return Origin(entry_point.name, "helora-core" if entry_point is CORE else None, None)
    return Origin(entry_point.name, _field(entry_point.dist, "Name"), _field(entry_point.dist, "Version"))


def _field(distribution: Distribution, key: str) -> str | None:
    """A field of the distribution's metadata, which may lack even the required ones."""
    try:
        values = distribution.metadata.get_all(key)
    except FileNotFoundError:  # importlib_metadata, which is used once imported, raises this if there is no file
        return None
    return values[0] if values else None


def find_entry_points() -> tuple[list[EntryPoint], list[PluginFailure]]:
    """The entry points of group ``helora`` on ``sys.path``, and the distributions whose metadata cannot be read.

    A distribution that is on the path twice counts once: the first hides the others, as it does for imports.
    """
    found: list[EntryPoint] = []
    failures: list[PluginFailure] = []
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            entry_points = list(distribution.entry_points.select(group=hookspecs.PROJECT))
            name = origin_of(entry_points[0]).distribution if entry_points else None
        except Exception as error:  # anyone may have written these text files, and the parser is not robust
            failures.append(_unreadable(distribution, error))
            continue
        name = re.sub(r"[-_.]+", "-", name or "").lower()
        if name not in seen:
            found += entry_points
        if name:
            seen.add(name)
    return found, failures


def _unreadable(distribution: Distribution, cause: Exception) -> PluginFailure:
    try:
        name = _field(distribution, "Name")
    except Exception:  # that may be the very file that cannot be read
        name = None
    place = f"{name or 'a distribution'} in {distribution.locate_file('')}"
    error = PluginLoadError(
        f"the metadata of {place} cannot be read ({type(cause).__name__}: {cause}); it may declare plugins",
        hint=f"Reinstall {place}, or delete its .dist-info folder if nothing else is left of it.",
    )
    error.__cause__ = cause
    return PluginFailure(Origin("unknown", name, None), "discover", error)


def refuse_rivals(
    kind: str, name: str, claimants: Sequence[Origin], stage: Stage, way_out: str = ""
) -> list[PluginFailure]:
    """The failures of plugins that claim the same name. If core is among them, it comes first and keeps the name.

    Args:
        kind: The kind of thing that has the name, such as a backend.
        name: The name that several plugins claim.
        claimants: All plugins that claim it.
        stage: The stage at which the conflict was found.
        way_out: A remedy besides uninstalling, appended to the hint.
    """
    last = claimants[-1].who
    if len(set(claimants)) == 1:
        hint = f"Tell the author of {last} that it declares {name!r} twice; until then, uninstall it."
    elif claimants[0].plugin == CORE.name:
        hint = f"Nothing overrides helora-core: ask the author of {last} for another name, or uninstall it."
    else:
        hint = f"Uninstall all but one of them, for instance {last}{way_out}."
    error = PluginConflict(f"the {kind} name {name!r} is claimed by {' and by '.join(map(str, claimants))}", hint=hint)
    losers = claimants[1:] if claimants[0].plugin == CORE.name else claimants
    return [PluginFailure(origin, stage, error) for origin in dict.fromkeys(losers)]


def choose(
    entry_points: Iterable[EntryPoint], pins: Collection[str] | None
) -> tuple[list[EntryPoint], list[PluginFailure]]:
    """Choose the entry points to load: core first, then the others by name.

    Args:
        entry_points: All that are installed. Core is added if it is not among them.
        pins: The names to load beside core; None for all.

    Returns:
        The entry points to load, and the failures: a name that two distributions use (neither is loaded, but core
        always is), and a pin that is not installed.
    """
    installed = sorted(entry_points, key=lambda entry_point: entry_point.name)
    core = next((each for each in installed if (each.name, each.value) == (CORE.name, CORE.value)), CORE)
    claims: defaultdict[str, list[EntryPoint]] = defaultdict(list, {CORE.name: [core]})
    for entry_point in installed:
        if entry_point is not core:
            claims[entry_point.name].append(entry_point)
    chosen: list[EntryPoint] = []
    failures: list[PluginFailure] = []
    for name, rivals in claims.items():
        if pins is not None and name not in {CORE.name, *pins}:
            continue
        if len(rivals) == 1 or name == CORE.name:
            chosen.append(rivals[0])
        if len(rivals) > 1:
            failures += refuse_rivals("plugin", name, [origin_of(rival) for rival in rivals], "discover")
    failures += [_missing_pin(pin, claims) for pin in sorted(set(pins or ()) - set(claims))]
    return chosen, failures


def _missing_pin(pin: str, installed: Collection[str]) -> PluginFailure:
    error = PluginLoadError(
        f"HELORA_PLUGINS names the plugin {pin!r}, which no installed distribution offers",
        hint=f"{did_you_mean(pin, installed)}Install it, or remove it from HELORA_PLUGINS; "
        f"installed plugins: {', '.join(installed)}.",
    )
    return PluginFailure(Origin(pin, None, None), "discover", error)


def load_plugin(entry_point: EntryPoint) -> LoadedPlugin | PluginFailure:
    """Import an entry point's target and check its hooks. No exception escapes except KeyboardInterrupt."""
    origin = origin_of(entry_point)
    try:
        plugin = run_plugin_code(
            entry_point.load,
            f"importing {entry_point.value!r} of {origin}",
            f"Reinstall {origin.who} and the libraries it needs, or uninstall it; HELORA_PLUGINS can leave it "
            "out in the meantime.",
        )
    except PluginLoadError as error:
        return PluginFailure(origin, "import", error)
    try:
        return LoadedPlugin(origin, _checked_hooks(plugin, origin))
    except PluginLoadError as error:
        return PluginFailure(origin, "validate", error)


def _checked_hooks(plugin: object, origin: Origin) -> pluggy.HookRelay:
    """Register the plugin in its own pluggy host, and refuse errors that pluggy ignores or checks only on request."""
    host = pluggy.PluginManager(hookspecs.PROJECT)
    host.add_hookspecs(hookspecs)
    hint = "Tell the plugin's author: helora_core/hookspecs.py has every hook with its signature and an example."
    run_plugin_code(lambda: host.register(plugin, origin.plugin), f"checking the hooks of {origin}", hint)
    callers = host.get_hookcallers(plugin) or ()
    marked = {caller.name for caller in callers if not _is_optional(caller)}
    unmarked = {name for name in dir(plugin) if _is_unmarked_hook(host, plugin, name)}
    unknown = sorted((marked | unmarked) - HOOKS)
    if unknown:
        raise PluginLoadError(
            f"{origin} implements {unknown[0]}, which is not a helora hook", hint=did_you_mean(unknown[0], HOOKS) + hint
        )
    if unmarked:
        raise PluginLoadError(
            f"{origin} defines {min(unmarked)} without @hookimpl, so that it would never be called",
            hint="Tell the plugin's author to put @hookimpl, from helora_core.hookspecs, above it.",
        )
    if not callers:
        raise PluginLoadError(f"{origin} implements no hook", hint=hint)
    return host.hook


def _is_optional(caller: pluggy.HookCaller) -> bool:
    """Whether the plugin itself marks this hook as possibly unknown, such as one from a later helora."""
    return not caller.has_spec() and all(implementation.optionalhook for implementation in caller.get_hookimpls())


def _is_unmarked_hook(host: pluggy.PluginManager, plugin: object, name: str) -> bool:
    is_function = name.startswith("helora_") and inspect.isroutine(inspect.getattr_static(plugin, name, None))
    return is_function and host.parse_hookimpl_opts(plugin, name) is None
