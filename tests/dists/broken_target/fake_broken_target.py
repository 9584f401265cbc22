"""A plugin that lists well and breaks when used."""

from helora_core.hookspecs import hookimpl
from helora_core.specs import BackendSpec, PackingSpec


@hookimpl
def helora_backends():
    yield BackendSpec(
        name="broken", target="fake_broken_target_code:Backend", summary="fails to import", provides_security=False
    )


@hookimpl
def helora_packings():
    yield PackingSpec(name="broken_packing", target="fake_broken_target:NoSuchClass", summary="is not there")
