"""A plugin that forgets the marker, without which pluggy passes the function over in silence."""


def helora_backends():
    return ()
