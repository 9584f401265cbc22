"""A plugin whose native library is gone, loaded as ctypes users load one."""

import ctypes

ctypes.CDLL("libfake_acme.so.3")
