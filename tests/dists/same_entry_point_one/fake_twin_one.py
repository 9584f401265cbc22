"""One of two distributions that use the entry-point name 'twin'."""

from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec


@hookimpl
def helora_backends():
    yield BackendSpec(
        name="twin_one",
        target="unused:Unused",
        summary="never listed",
        provides_security=False,
    )
