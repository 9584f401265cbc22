"""A plugin with two availability checks, neither of which does what the contract says."""

from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec


def raises():
    raise OSError("libfake_acme.so.3: cannot open shared object file")


def spec(name, availability):
    return BackendSpec(
        name=name, target="unused:Unused", summary="", provides_security=False, availability=availability
    )


@hookimpl
def helora_backends():
    yield spec("check_raises", raises)
    yield spec("check_answers_true", lambda: True)
    yield spec("check_answers_nothing_said", lambda: "")
