"""The files of a release: ``build DIR`` makes them, ``check DIR`` holds them to what they promise.

``build DIR`` makes the source distribution and wheel of every distribution, helora-rns's wheel for this machine;
``build DIR --targets linux-x86_64,musl-aarch64,…`` or ``--targets all`` makes its wheels for those as well, by ziglang.
``check DIR --tag v0.1.0`` also wants the tag to be the version, and CHANGELOG.md to have it.

It needs uv, and for ``check`` twine. RELEASING.md says when it is run.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
RNS = "helora-rns"

HAS: dict[str, tuple[str, ...]] = {
    "helora-core": (r"helora_core/_template/pyproject\.toml", r"helora_core/.*adapter_model\.safetensors"),
    "helora-rns": (r"helora_rns/native/ring\.cpp", r"helora_rns/_library/.*helora_rns\.(so|dylib|dll)"),
    "helora-cupy": (r"helora_cupy/.*\.cu", r"helora_cupy/.*\.cuh"),
    "helora-serve": (
        r"helora_serve/web/private\.html", r"helora_serve/web/engine-(relaxed|simd128|scalar)\.wasm",
        r"helora_serve/web/model/kernels\.wasm", r"helora_serve/web/vendor/tokenizers\.LICENSE",
    ),
    "helora-harness": (r"helora_harness/trends/trends\.js", r"helora_harness/export/report\.css"),
}  # fmt: skip
"""What wheels must have beside their modules, their licence and ``py.typed``."""

NOT = (r"(^|/)tests/(?!.*_template)", r"__pycache__", r"\.pyc$", r"(^|/)\.", r"(^|/)node_modules/")
FROM_SOURCE = {"helora-rns": ("build.py", "hatch_build.py", "src/helora_rns/native/ring.cpp")}
"""What a source distribution must have to be built."""


def projects() -> dict[str, Path]:
    """The folder of each distribution, by its name."""
    folders = [ROOT, ROOT / "harness", *sorted(ROOT.glob("plugins/helora-*"))]
    return {_project(folder)["name"]: folder for folder in folders}


def _project(folder: Path) -> dict[str, str]:
    project: dict[str, str] = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def build(out: Path, targets: list[str]) -> None:
    """Make all files; wheels come from the source distributions, as they do for whoever installs those."""
    subprocess.run(["uv", "build", "--quiet", "--all-packages", "--out-dir", str(out)], cwd=ROOT, check=True)
    for target in targets:
        print(f"{RNS} for {target}", flush=True)
        command = ["uv", "build", "--quiet", "--wheel", "--package", RNS, "--out-dir", str(out)]
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "HELORA_RNS_BUILD": target})


def problems(out: Path, tag: str) -> Iterator[str]:
    """What is wrong with the files, a line each."""
    known = projects()
    versions = {name: _project(folder)["version"] for name, folder in known.items()}
    if len(set(versions.values())) > 1:
        yield f"versions differ: {versions}"
    version = versions["helora-core"]
    for extra, wanted in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ].items():
        for requirement in wanted:
            if (
                requirement.startswith("helora-")
                and not requirement.startswith("helora-core[")
                and (not requirement.endswith(f"=={version}"))
            ):
                yield f"extra {extra} of helora-core wants {requirement}, and not =={version}"
    if tag:
        if tag != f"v{version}":
            yield f"the tag is {tag}, and the version {version}"
        if f"## [{version}]" not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
            yield f"CHANGELOG.md has no section [{version}]"
    for name in known:
        stem = f"{name.replace('-', '_')}-{version}"
        wheels, sources = sorted(out.glob(f"{stem}-*.whl")), out / f"{stem}.tar.gz"
        if not wheels or not sources.is_file():
            yield f"{name}: there is no wheel, or no source distribution"
            continue
        for wheel in wheels:
            yield from _wheel_problems(name, wheel)
        with tarfile.open(sources) as archive:
            inside = {member.name.partition("/")[2] for member in archive.getmembers()}
        for file in ("LICENSE", "README.md", "pyproject.toml", *FROM_SOURCE.get(name, ())):
            if file not in inside:
                yield f"{sources.name}: has no {file}"


def _wheel_problems(name: str, wheel: Path) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as archive:
        inside = archive.namelist()
        entries = [file for file in inside if file.endswith(".dist-info/entry_points.txt")]
        text = archive.read(entries[0]).decode() if entries else ""
    if "[helora]" not in text:
        yield f"{wheel.name}: has no entry point of group helora, so that helora does not find it"
    package = name.replace("-", "_")
    wanted = (
        rf"{package}/__init__\.py",
        rf"{package}/py\.typed",
        r".*\.dist-info/licenses/LICENSE",
        *HAS.get(name, ()),
    )
    for pattern in wanted:
        if not any(re.fullmatch(pattern, file) for file in inside):
            yield f"{wheel.name}: has nothing like {pattern}"
    for file in inside:
        for pattern in NOT:
            if re.search(pattern, file) and "_template" not in file:
                yield f"{wheel.name}: has {file}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    building, checking = commands.add_parser("build"), commands.add_parser("check")
    building.add_argument("--targets", default="", help="targets of helora-rns's build.py, comma-separated, or all")
    checking.add_argument("--tag", default="")
    for each in (building, checking):
        each.add_argument("dir", type=Path)
    asked = parser.parse_args()
    if asked.command == "build":
        sys.path.insert(0, str(projects()[RNS]))
        from build import TARGETS

        targets = list(TARGETS) if asked.targets == "all" else [each for each in asked.targets.split(",") if each]
        unknown = sorted({*targets} - {*TARGETS})
        if unknown:
            sys.exit(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
        build(asked.dir, targets)
        return
    found = list(problems(asked.dir, asked.tag))
    for line in found:
        print(line)
    files = [str(file) for file in sorted(asked.dir.iterdir()) if file.suffix in (".whl", ".gz")]
    twine = subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=False)
    sys.exit(bool(found) or twine.returncode != 0)


if __name__ == "__main__":
    main()
