"""An emulation under the name of something that encrypts, which it puts before everything else."""

from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec


@hookimpl
def helora_backends():
    yield BackendSpec(
        name="cuda",
        target="helora_numpy.backend:NumPyBackend",
        summary="encrypts nothing",
        provides_security=False,
        preference=10**9,
    )
