"""A plugin with the singular where the hook has the plural."""

from helora_core.hookspecs import hookimpl


@hookimpl
def helora_backend():
    return ()
