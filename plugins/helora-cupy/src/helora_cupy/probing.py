"""Whether a card can be used here, or why not, in words. Asked in a child process: a driver that crashes or hangs must
not take its caller along, and a process that has started CUDA cannot be forked.

Without CuPy nothing is started at all. The answer is kept for as long as the process lives.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import NamedTuple

from helora_core.installing import install_line

VARIABLE = "HELORA_CUPY_DEVICE"
"""``card`` or nothing for the card that CUDA lists first; ``shim`` for the kernels on the CPU, compiled by g++: a test
of the kernels, as slow as it is exact."""

SHIM = "shim"

LEAST_CAPABILITY = (8, 0)
"""Of a card: the kernels take up to 96 KiB of shared memory a block, and are compiled for Ampere and later."""

SECONDS = 60

_PROBE = """
import ctypes, json, sys

def said(**answer):
    print(json.dumps(answer))
    sys.exit()

try:
    driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
except OSError:
    said(reason="no CUDA driver (libcuda.so.1) on this machine")
status = driver.cuInit(0)
if status:
    said(reason="a CUDA driver, but no card" if status == 100 else f"the CUDA driver does not start (error {status})")
count, version, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
driver.cuDriverGetVersion(ctypes.byref(version))
if driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value or driver.cuDeviceGet(ctypes.byref(device), 0):
    said(reason="a CUDA driver, but no card")
name = ctypes.create_string_buffer(128)
driver.cuDeviceGetName(name, len(name), device)
capability = []
for attribute in (75, 76):
    found = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(found), attribute, device)
    capability.append(found.value)
answer = dict(card=name.value.decode(errors="replace"), capability=capability, driver=version.value)
try:
    import cupy
    cupy.cuda.nvrtc.getVersion()
    if cupy.zeros(1).get()[0] != 0:
        answer["reason"] = "CuPy computes nothing on the card"
    answer["cupy"] = cupy.__version__
except BaseException as error:
    answer["reason"] = f"CuPy cannot use the card: {type(error).__name__}: {error}"[:300]
said(**answer)
"""


def not_installed() -> str:
    """What is said where CuPy is missing."""
    return f"CuPy is not installed: {install_line('cuda12')} for a driver with CUDA 12, the same with cuda13 for 13"


class Answer(NamedTuple):
    """What the child says.

    Attributes:
        reason: Why there is no card to run on, or None.
        card: Its name, if there is one.
        capability: Its compute capability.
        driver: The CUDA that the driver speaks: 12080 is 12.8.
        cupy: The version of CuPy.
    """

    reason: str | None = None
    card: str = ""
    capability: tuple[int, int] = (0, 0)
    driver: int = 0
    cupy: str = ""


def asked(probe: str = _PROBE, *, seconds: float = SECONDS) -> Answer:
    """Run a probe in a child process.

    Args:
        probe: Python that prints an ``Answer`` as JSON.
        seconds: How long to wait.
    """
    try:
        child = subprocess.run(
            [sys.executable, "-c", probe], capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer(reason=f"the CUDA driver did not answer within {seconds:g} seconds")
    except OSError as error:
        return Answer(reason=f"no process could be started to ask the CUDA driver ({error.strerror or error})")
    if child.returncode:
        last = child.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        return Answer(reason=f"the probe of the CUDA driver ended with {child.returncode}: {last[0][:200]}")
    try:
        said = json.loads(child.stdout.strip().splitlines()[-1])
        return _judged(Answer(**{**said, "capability": tuple(said.get("capability", (0, 0)))}))
    except (IndexError, ValueError, TypeError):
        return Answer(reason="the probe of the CUDA driver gave no answer")


def _judged(answer: Answer) -> Answer:
    """With a reason if the card is too old, before whatever else is wrong with it."""
    if answer.card and answer.capability < LEAST_CAPABILITY:
        (least, least_minor), (major, minor) = LEAST_CAPABILITY, answer.capability
        reason = (
            f"{answer.card} has compute capability {major}.{minor}; the kernels need {least}.{least_minor} "
            "(Ampere) or later"
        )
        return answer._replace(reason=reason)
    return answer


@functools.cache
def card() -> Answer:
    """The card of this machine. Asked once."""
    if importlib.util.find_spec("cupy") is None:
        return Answer(reason=not_installed())
    return asked()


def wanted() -> str:
    """The device that the variable names: ``card`` if it is not set."""
    return os.environ.get(VARIABLE, "").strip().lower() or "card"


def availability() -> str | None:
    """Why the backend cannot run here, or None."""
    name = wanted()
    if name == SHIM:
        return None if shutil.which("g++") else f"{VARIABLE}={SHIM} compiles the kernels for the CPU, and needs g++"
    if name != "card":
        return f"{VARIABLE} is {name!r}: set it to card or {SHIM}, or unset it"
    return card().reason


def only_by_name() -> str | None:
    """Why ``auto`` must not take the backend although it can run."""
    return f"{VARIABLE}={SHIM} is for tests: the kernels on the CPU by g++" if wanted() == SHIM else None


def device() -> str:
    """The kind of device that the backend runs on, which it is calibrated for."""
    return SHIM if wanted() == SHIM else card().card


def facts() -> Mapping[str, str]:
    """The card, and the CUDA that its driver speaks."""
    found = card()
    if not found.card:
        return {}
    driver = f"CUDA {found.driver // 1000}.{found.driver % 1000 // 10}"
    return {"card": f"{found.card}, compute capability {'.'.join(map(str, found.capability))}", "driver": driver}


def library() -> str:
    """The distribution that CuPy is installed from, which is named after a CUDA; ``cupy`` if there is none."""
    for name in ("cupy-cuda13x", "cupy-cuda12x"):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return name
    return "cupy"
