"""A plugin that wants an argument that the hook does not have."""

from helora_core.hookspecs import hookimpl


@hookimpl
def helora_backends(config):
    return config
