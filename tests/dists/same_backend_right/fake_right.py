"""One of two plugins that offer a backend named 'shared'."""

from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec


@hookimpl
def helora_backends():
    yield BackendSpec(
        name="shared",
        target="fake_healthy_backend:FakeBackend",
        summary="offered by two",
        provides_security=False,
    )
