"""Compiles the kernels: ``python build.py`` for this machine, ``python build.py --target NAME`` for another.

``--target wasm`` makes the client half for browsers, three builds of it, by ``ziglang`` alone; helora-serve has them.

``--sanitize`` has the compiler put checks into them, of memory and of undefined behaviour, for tests.

The system's compiler is taken if there is one, and for other targets and in its absence ``ziglang`` from PyPI, which
brings headers and libraries for all of them. A build that finds neither leaves a package with the NumPy kernels.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
NATIVE = HERE / "src" / "helora_rns" / "native"
LIBRARY = HERE / "src" / "helora_rns" / "_library"
WEB = HERE.parent / "helora-serve" / "src" / "helora_serve" / "web"

FLAGS = [
    "-std=c++17", "-O3", "-g0", "-ffreestanding", "-ffp-contract=off", "-fno-exceptions", "-fno-rtti",
    "-fno-math-errno", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi",
    "-Wno-uninitialized", "-Wno-maybe-uninitialized",
]  # fmt: skip
"""Nothing is contracted to a fused operation unless the source says so: results are the same bits everywhere."""

SANITIZE = ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
"""Every read and write checked, and undefined behaviour: the first finding ends the process."""

SOURCES: dict[str, list[str]] = {
    "ring.cpp": [],
    "polynomials.cpp": [],
    "programs.cpp": [],
    "streams.cpp": [],
    "gemm.cpp": [],
    "gemm_avx2.cpp": ["-mavx2", "-mfma", "-ffp-contract=fast"],
    "gemm_avx512ifma.cpp": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-ffp-contract=fast"],
    "sanitize.cpp": [],
    "words.cpp": [],
    "words_avx2.cpp": ["-mavx2"],
    "words_avx512.cpp": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw"],
    "rows_scalar.cpp": [],
    "rows_avx2.cpp": ["-mavx2", "-mfma"],
    "rows_avx512ifma.cpp": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mavx512ifma"],
}
"""Each kernel set is compiled for its instructions, and the rest for any machine. Flags are for x86-64 only.

Products with matrices may be fused: every operation in them is exact, so that it makes no difference to the bits."""

CLIENT_SOURCES: dict[str, list[str]] = {
    "ring.cpp": ["-Os"],
    "polynomials.cpp": ["-Os"],
    "streams.cpp": [],
    "sanitize.cpp": ["-Os"],
    "words.cpp": ["-Os"],
    "rows_wasm.cpp": ["-fno-unroll-loops"],
    "chacha.cpp": [],
    "client.cpp": ["-Os"],
}
"""What a client in a browser takes: nothing of programs, products of matrices and other instruction sets.

Flags are those that save bytes and cost no time: the transforms unroll by themselves, the blocks of ChaCha20 do not."""

CLIENT_HEADERS = ["helora_rns.h", "client.h", "base.hpp", "ring.hpp", "polynomials.hpp", "words.hpp", "word_rows.hpp",
                  "rows.hpp", "transform.hpp", "embedding.hpp", "policy_relaxed.hpp",
                  "policy_quotients.hpp"]  # fmt: skip

CLIENT_BUILDS: dict[str, list[str]] = {
    "relaxed": ["-msimd128", "-mrelaxed-simd"],
    "simd128": ["-msimd128"],
    "scalar": [],
}
"""For browsers with fused products, with vectors, and with neither."""

CLIENT_FLAGS = [
    "-target", "wasm32-freestanding", "-nostdlib", "-DHR_CLIENT", "-ffunction-sections", "-fdata-sections",
    "-mbulk-memory", "-msign-ext", "-mnontrapping-fptoint", "-Wno-unused-function", "-Wno-unknown-warning-option",
]  # fmt: skip

CLIENT_LINK = ["-O3", "--no-entry", "--gc-sections", "--strip-all", "--stack-first", "-z", "stack-size=131072",
               "--export=__heap_base"]  # fmt: skip
"""The stack is below everything else: one that is too deep ends the program and overwrites nothing."""

CLIENT_EXPORTS = [
    "hr_add", "hr_add_doubles", "hr_are_below", "hr_binomial", "hr_chacha20", "hr_coefficients_to_slots",
    "hr_forward", "hr_fused", "hr_inverse", "hr_largest", "hr_multiply", "hr_multiply_add", "hr_negate",
    "hr_of_doubles", "hr_pack", "hr_permute", "hr_quotients", "hr_ring_bytes", "hr_ring_make", "hr_root_powers",
    "hr_scaled", "hr_shift", "hr_slots_to_coefficients", "hr_sub", "hr_ternary", "hr_times", "hr_to_doubles",
    "hr_uniform", "hr_unpack", "hr_values_of_doubles", "hr_words_encrypted", "hr_words_opened", "hr_words_padded",
    "hr_words_revealed",
]  # fmt: skip
"""What pages call; the rest is left out."""


@dataclass(frozen=True)
class Target:
    """What a library is compiled for: zig's name of it, a wheel's tag, and what the library's file is called."""

    triple: str
    tag: str
    file: str = "libhelora_rns.so"

    @property
    def x86(self) -> bool:
        return self.triple.startswith("x86_64")


TARGETS = {
    "linux-x86_64": Target("x86_64-linux-gnu.2.17", "manylinux_2_17_x86_64"),
    "linux-aarch64": Target("aarch64-linux-gnu.2.17", "manylinux_2_17_aarch64"),
    "musl-x86_64": Target("x86_64-linux-musl", "musllinux_1_1_x86_64"),
    "musl-aarch64": Target("aarch64-linux-musl", "musllinux_1_1_aarch64"),
    "macos-x86_64": Target("x86_64-macos.11.0", "macosx_11_0_x86_64", "libhelora_rns.dylib"),
    "macos-arm64": Target("aarch64-macos.11.0", "macosx_11_0_arm64", "libhelora_rns.dylib"),
    "windows-x86_64": Target("x86_64-windows-gnu", "win_amd64", "helora_rns.dll"),
    "windows-arm64": Target("aarch64-windows-gnu", "win_arm64", "helora_rns.dll"),
}


def this_machine() -> Target:
    """The target that this Python runs on; its tag is the platform's own."""
    architecture = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    file = {"win32": "helora_rns.dll", "darwin": "libhelora_rns.dylib"}.get(sys.platform, "libhelora_rns.so")
    tag = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return Target(architecture, tag, file)


def system_compiler() -> list[str] | None:
    """The command of a C++ compiler on this machine, or None."""
    named = os.environ.get("CXX")
    for command in [shlex.split(named)] if named else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(command[0]):
            return command
    return None


def compilers(target: Target, *, cross: bool) -> Iterator[list[str]]:
    """Commands to try, in order."""
    system = system_compiler()
    if system and not cross:
        yield system
    if importlib.util.find_spec("ziglang"):
        aimed = ["-target", target.triple] if cross else []
        yield [sys.executable, "-m", "ziglang", "c++", "-nostdlib++", *aimed]


def compile_library(out: Path, target: Target | None = None, *, sanitize: bool = False) -> Path | None:
    """Compile for a target, by default this machine; the library's path, or None if no compiler did it."""
    cross, target = target is not None, target or this_machine()
    for command in compilers(target, cross=cross):
        try:
            return _compiled(command, out, target, SANITIZE if sanitize else [])
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"helora-rns: {command[0]} did not compile the kernels: {error}", file=sys.stderr)
    return None


def _compiled(command: list[str], out: Path, target: Target, more: list[str]) -> Path:
    windows, apple = target.file.endswith(".dll"), target.file.endswith(".dylib")
    position = [] if windows else ["-fPIC"]
    with tempfile.TemporaryDirectory() as folder:

        def compiled(source: str) -> str:
            built = str(Path(folder, source).with_suffix(".o"))
            flags = FLAGS + position + (SOURCES[source] if target.x86 else []) + more
            subprocess.run([*command, *flags, "-c", str(NATIVE / source), "-o", built], check=True)
            return built

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compiled, SOURCES))
        link = [] if windows or apple else ["-Wl,--as-needed"]
        library = str(Path(folder, target.file))
        subprocess.run([*command, "-shared", *objects, *link, *more, "-o", library], check=True)
        out.mkdir(parents=True, exist_ok=True)
        # Replaced, not overwritten: a process that has the old one mapped keeps it.
        staged = out / f"{target.file}.{os.getpid()}.new"  # environments may be made side by side
        shutil.copyfile(library, staged)
        os.replace(staged, out / target.file)
        return out / target.file


def client_file(build: str) -> str:
    """The name of a build's file."""
    return f"engine-{build}.wasm"


def client_sources() -> str:
    """SHA-256 (hex) of all that a client is made from: sources, headers and flags."""
    flags = [FLAGS, CLIENT_FLAGS, CLIENT_BUILDS, CLIENT_SOURCES, CLIENT_LINK, CLIENT_EXPORTS]
    digest = hashlib.sha256(repr(flags).encode())
    for name in (*CLIENT_SOURCES, *CLIENT_HEADERS):
        digest.update(hashlib.sha256((NATIVE / name).read_bytes()).digest())
    return digest.hexdigest()


def compile_client(out: Path) -> list[Path]:
    """The client half for browsers, in three builds, and ``engine.json``, which says what they are; their paths. The
    bytes depend on sources, flags and zig's version alone.

    Raises:
        OSError, CalledProcessError: ``ziglang`` is not installed, or did not compile it.
    """
    command, link = ([sys.executable, "-m", "ziglang", name] for name in ("c++", "wasm-ld"))
    exports = [f"--export={name}" for name in CLIENT_EXPORTS]
    out.mkdir(parents=True, exist_ok=True)
    for build, machine in CLIENT_BUILDS.items():
        with tempfile.TemporaryDirectory() as folder:
            objects = []
            for source, own in CLIENT_SOURCES.items():
                built = str(Path(folder, source).with_suffix(".o"))
                flags = [*FLAGS, *CLIENT_FLAGS, *machine, *own]
                subprocess.run([*command, *flags, "-c", str(NATIVE / source), "-o", built], check=True)
                objects.append(built)
            module = str(Path(folder, client_file(build)))
            subprocess.run([*link, *CLIENT_LINK, *exports, *objects, "-o", module], check=True)
            shutil.copyfile(module, out / client_file(build))
    made = [out / client_file(build) for build in CLIENT_BUILDS]
    version = subprocess.run([sys.executable, "-m", "ziglang", "version"], check=True, capture_output=True, text=True)
    facts = {
        "compiler": f"ziglang {version.stdout.strip()}",
        "sources": client_sources(),
        "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made},
    }
    (out / "engine.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return [*made, out / "engine.json"]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=[*sorted(TARGETS), "wasm"], help="another machine, by ziglang")
    parser.add_argument("--out", type=Path, help="where the library goes")
    parser.add_argument("--sanitize", action="store_true", help="with checks of memory and behaviour, for tests")
    asked = parser.parse_args()
    if asked.target == "wasm":
        print(*compile_client(asked.out or WEB), sep="\n")
        return 0
    library = compile_library(
        asked.out or LIBRARY, TARGETS[asked.target] if asked.target else None, sanitize=asked.sanitize
    )
    print(library or "no compiler: the NumPy kernels remain; pip install ziglang brings one")
    return 0 if library else 1


if __name__ == "__main__":
    raise SystemExit(main())
