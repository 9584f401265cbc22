"""A plugin in order, whose library is not installed."""

from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec


@hookimpl
def helora_backends():
    yield BackendSpec(
        name="no_library",
        target="unused:Unused",
        summary="drives a library that is not installed",
        provides_security=False,
        library="fake-absent-library",
        availability=lambda: "the library fake-absent-library is not installed",
    )
