"""The plugin host's records, as plain data: who offers what, and what went wrong.

Every record says which plugin of which distribution it comes from, so that any report can name somebody to turn to.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

from helora_core.errors import HeloraError, PluginLoadError
from helora_core.specs import BackendSpec, PackingSpec

T = TypeVar("T")

Stage = Literal["discover", "import", "validate", "call", "register", "availability", "load"]
"""What a plugin was doing when it failed; docs/hooks.md says what each stage means."""


@dataclass(frozen=True)
class Origin:
    """The plugin and distribution that offer something.

    Attributes:
        plugin: The name of the entry point, which is also the name in ``HELORA_PLUGINS``.
        distribution: The name that ``pip uninstall`` takes; None if unknown.
        version: The distribution's version; None if unknown, as for helora-core in a checkout that is not installed.
    """

    plugin: str
    distribution: str | None
    version: str | None

    @property
    def who(self) -> str:
        """The distribution to reinstall or uninstall, or whose author to contact, as far as it is known."""
        return self.distribution or f"the unnamed distribution of plugin {self.plugin!r}"

    def __str__(self) -> str:
        distribution = " ".join(filter(None, (self.distribution or "unnamed distribution", self.version)))
        return f"{distribution} (plugin {self.plugin!r})"


@dataclass(frozen=True)
class Originated:
    """Something that is known to come from a plugin."""

    origin: Origin

    @property
    def plugin(self) -> str:
        """The plugin's entry-point name."""
        return self.origin.plugin

    @property
    def distribution(self) -> str | None:
        """The distribution that the plugin was installed from."""
        return self.origin.distribution

    @property
    def version(self) -> str | None:
        """The version of that distribution."""
        return self.origin.version


@dataclass(frozen=True)
class PluginFailure(Originated):
    """One thing that a plugin did wrong. Everything else keeps working.

    Attributes:
        stage: What the plugin was doing.
        error: The refusal; its ``__cause__`` is the exception that the plugin raised.
    """

    stage: Stage
    error: HeloraError

    @property
    def code(self) -> str:
        """The error's stable machine-readable code."""
        return self.error.code

    @property
    def reason(self) -> str:
        """What happened, on one line."""
        return self.error.message

    @property
    def next_step(self) -> str:
        """What the user can do about it."""
        return self.error.hint


def run_plugin_code(code: Callable[[], T], doing: str, hint: str) -> T:
    """Run a plugin's code, and return its result.

    Args:
        code: The code to run.
        doing: The subject of the error message: who was doing what.
        hint: What the user can do if it fails.

    Raises:
        PluginLoadError: The code raised; its exception is the cause. Only KeyboardInterrupt passes through.
    """
    try:
        return code()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # neither SystemExit nor the panic of a Rust extension is an Exception
        said = " ".join(str(error).split())
        what = f"{type(error).__name__}: {said}" if said else type(error).__name__
        raise PluginLoadError(f"{doing} raised {what}", hint=hint) from error


@dataclass(frozen=True)
class RegisteredPacking(Originated):
    """A packing that can be loaded by name.

    Attributes:
        spec: What the plugin says about it.
    """

    spec: PackingSpec


@dataclass(frozen=True)
class RegisteredBackend(Originated):
    """A backend that is known by name, whether or not its library can be used here.

    Attributes:
        spec: What the plugin says about it.
        report: Called with a failure of its availability check.
    """

    spec: BackendSpec
    report: Callable[[PluginFailure], None] = field(repr=False, compare=False)

    @cached_property
    def availability(self) -> str | None:
        """None if it can be used here, otherwise the reason in words. The plugin is asked once, on first use."""
        return self._asked(self.spec.availability, "the availability check")

    @cached_property
    def only_by_name(self) -> str | None:
        """None if ``auto`` may take it, otherwise the reason in words. The plugin is asked once, on first use."""
        return self._asked(self.spec.only_by_name, "the check whether auto may take it")

    @cached_property
    def device(self) -> str:
        """The device that it computes on, by the name of its kind; empty for the CPU, and if it cannot be used."""
        if self.availability is not None:
            return ""
        doing = f"naming the device of backend {self.spec.name!r} of {self.origin}"
        hint = f"Tell the author of {self.origin.who}: it must return a text."
        try:
            return str(run_plugin_code(self.spec.device, doing, hint))
        except PluginLoadError as error:
            self.report(PluginFailure(self.origin, "availability", error))
            return ""

    @cached_property
    def facts(self) -> dict[str, str]:
        """What the plugin found on this machine and would run with, by name; empty if it has nothing to say."""
        doing = f"the facts of backend {self.spec.name!r} of {self.origin}"
        hint = f"Tell the author of {self.origin.who}: they must be texts by name."
        try:
            facts = run_plugin_code(lambda: dict(self.spec.facts()), doing, hint)
        except PluginLoadError as error:
            self.report(PluginFailure(self.origin, "availability", error))
            return {}
        return {str(name): str(fact) for name, fact in facts.items()}

    def _asked(self, check: Callable[[], str | None], what: str) -> str | None:
        """A check's answer; one that fails is a reason itself."""
        doing = f"{what} of backend {self.spec.name!r} of {self.origin}"
        hint = f"Tell the author of {self.origin.who}: the check must return None or a reason in words."
        try:
            answer: object = run_plugin_code(check, doing, hint)
            if answer is None or (isinstance(answer, str) and answer.strip()):
                return answer
            raise PluginLoadError(f"{doing} returned {answer!r}", hint=hint)
        except PluginLoadError as error:
            self.report(PluginFailure(self.origin, "availability", error))
            return error.message

    @cached_property
    def library_version(self) -> str | None:
        """The installed version of the backend's library; None if it has none, or if that is not installed."""
        if not self.spec.library:
            return None
        try:
            return importlib.metadata.version(self.spec.library)
        except importlib.metadata.PackageNotFoundError:
            return None
