"""The AVX-512 kernels where no CPU has them: compiled against intrinsics that are emulated lane by lane."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helora_rns import compiled
from tests.loading import module_at

HERE = Path(__file__).parent
PLUGIN = HERE.parent

RUN = """
import sys
from pathlib import Path
import pytest
from helora_rns import compiled
compiled.library_path = lambda: Path(sys.argv[1])
compiled.supported = lambda: compiled.SETS
sys.exit(pytest.main(["-q", "-x", "-p", "no:cacheprovider", *sys.argv[2:], "-k", "avx512ifma"]))
"""


@pytest.mark.skipif("avx512ifma" in compiled.supported(), reason="this CPU has them, and test_kernels.py runs them")
@pytest.mark.skipif("avx2" not in compiled.supported(), reason="the other kernels are compiled as they are")
def test_the_avx512_kernels_give_the_same_bits(tmp_path: Path) -> None:
    build = module_at(PLUGIN / "build.py")
    compiler = build.system_compiler()
    if compiler is None:
        pytest.skip("no compiler")
    objects = []
    for source, machine in build.SOURCES.items():
        built = str(tmp_path / f"{source}.o")
        emulated = ["-O0", "-w", "-isystem", str(HERE / "emulated")] if "avx512" in source else ["-O1", *machine]
        flags = [*build.FLAGS, "-fPIC", *emulated]
        subprocess.run([*compiler, *flags, "-c", str(build.NATIVE / source), "-o", built], check=True)
        objects.append(built)
    library = tmp_path / "emulated.so"
    subprocess.run([*compiler, "-shared", *objects, "-lm", "-o", str(library)], check=True)
    tests = [str(HERE / file) for file in ("test_kernels.py", "test_gemm.py", "test_words.py")]
    command = [sys.executable, "-c", RUN, str(library), *tests]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-1000:]
    assert "passed" in ran.stdout
