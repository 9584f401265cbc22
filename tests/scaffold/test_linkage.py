"""What a compiled library offers and needs is read alike of all eight platforms' formats."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helora_rns import compiled
from tests.docs.command_lines import ROOT

sys.path.append(str(ROOT / ".ci"))
import binaries
import linkage
import release

HEADER = ROOT / "plugins/helora-rns/src/helora_rns/native/helora_rns.h"


def test_the_engine_here_exports_what_its_header_declares() -> None:
    data = compiled.library_path().read_bytes()
    found = linkage.linkage(data, binaries.read(data).format)
    declared = release.declared(HEADER)
    assert len(declared) > 40
    assert list(linkage.wrong(found, declared, ())) == []
    assert len(list(linkage.wrong(found, declared - {"hr_abi"}, ("nothing",)))) == (2 if found.needed else 1)


SOURCE = """
#if defined(_WIN32)
#define API __declspec(dllexport)
int __stdcall DllMainCRTStartup(void *a, unsigned b, void *c) { return 1; }
#else
#define API __attribute__((visibility("default")))
#endif
__attribute__((visibility("hidden"))) int hr_inner(int x) { return 3 * x; }
API int hr_one(int x) { return hr_inner(x) + 1; }
API int hr_two(int x) { return hr_inner(x) + 2; }
"""


@pytest.mark.parametrize("target", release.targets())
def test_names_and_machines_are_read_of_every_platform_s_libraries(target: str, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="the session serve has ziglang")
    (tmp_path / "a.c").write_text(SOURCE)
    text = (ROOT / "plugins/helora-rns/build.py").read_text()
    triple = re.findall(rf'"{target}": Target\("([^"]+)"', text)[0]
    flags = ["-shared", "-O1", "-fno-sanitize=all", "-fvisibility=hidden"]
    flags += [] if "macos" in target else ["-nostdlib"]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", triple, *flags, "-o", "library", "a.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    data = (tmp_path / "library").read_bytes()
    assert binaries.wrong(data, release.targets()[target]) is None
    assert binaries.wrong(data, "win_arm64" if "windows" not in target else "macosx_11_0_arm64") is not None
    found = linkage.linkage(data, binaries.read(data).format)
    assert found.exported == {"hr_one", "hr_two"}
    assert list(linkage.wrong(found, found.exported, linkage.SYSTEM[binaries.read(data).format])) == []
