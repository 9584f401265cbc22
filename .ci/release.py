"""A release: ``python .ci/release.py build DIR`` makes every distribution, ``check DIR`` holds them to their promises.

``version X.Y.Z`` writes a version into every project and the changelog, ``rehearse DIR X.Y.Z`` does that in a copy, and
``sbom DIR`` writes a bill of materials of what users get beside the distributions. Nothing here uploads:
.github/workflows/release.yml does, from what these commands made. RELEASING.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from datetime import date
from email.parser import Parser
from pathlib import Path

import bill
import binaries
import changelog
import linkage

ROOT = Path(__file__).resolve().parent.parent
RNS = "helora-rns"
PRIVATE = "helora-harness"
"""Of a checkout alone: built and checked with the others, and kept from every index by its classifier."""

PROMISED: dict[str, tuple[str, ...]] = {
    "helora-core": (
        "helora_core/_template/pyproject.toml", "helora_core/_template/src/helora_acme/library.py",
        "helora_core/data/smollm2_lora/activations.safetensors",
        "helora_core/data/smollm2_lora/adapter/adapter_model.safetensors", "helora_core/params/tables/*",
        "helora_core/conformance/suites/*.py", "*.dist-info/entry_points.txt=helora = helora_core.cli.main:main",
        "*.dist-info/entry_points.txt=helora_conformance",
    ),
    "helora-cupy": ("helora_cupy/native/*.cu", "helora_cupy/native/*.cuh", "helora_cupy/native/*.h"),
    "helora-rns": ("helora_rns/native/*.cpp", "helora_rns/native/*.hpp", "helora_rns/_library/*"),
    "helora-serve": (
        "helora_serve/web/*.js", "helora_serve/web/engine-*.wasm", "helora_serve/web/model/kernels.wasm",
        "helora_serve/web/vendor/*.LICENSE", "helora_serve/web/page/*", "helora_serve/web/private.html",
    ),
}  # fmt: skip
"""Beyond modules, ``py.typed``, the licence and the entry points; after ``=``, what the file says."""

UNWANTED = re.compile(r"(^|/)(__pycache__|\.pytest_cache|\.hypothesis|\.git)(/|$)|\.py[co]$|\.o$")
TESTS = re.compile(r"(^|/)tests/")


def projects() -> dict[str, Path]:
    """Folders by name, the core first."""
    folders = [ROOT, *sorted(ROOT.glob("plugins/helora-*")), ROOT / "harness"]
    return {_field(folder, "name"): folder for folder in folders}


def _field(folder: Path, name: str) -> str:
    found = re.search(rf'(?m)^{name} = "(.*)"$', (folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert found, f"{folder} has no {name}"
    return found[1]


VERSIONED = ("helora_core/__init__.py", "plugins/helora-serve/src/helora_serve/web/engine.js")
"""Source that says the version too, in a line ``__version__ =`` or ``export const PRODUCER =``."""

SAID = re.compile(r'(?m)^((?:__version__|export const PRODUCER) = ")([^"]+)"')
TOLD = re.compile(r"((?:helora-[\w\[\],-]+|`)==)(\d[\w.]*)")
"""Where a page tells readers to install a version."""


def pages() -> Iterator[Path]:
    """The README, what is below ``docs``, and the READMEs of plugins."""
    for pattern in ("*.md", "docs/*.md", "plugins/*/*.md"):
        yield from sorted(path for path in ROOT.glob(pattern) if path.name != "CHANGELOG.md")


def set_version(version: str) -> None:
    """Write it into projects, what they ask of each other, source and pages, and over the changelog's news.

    Raises:
        ValueError: The changelog has no news to release.
    """
    path = ROOT / "CHANGELOG.md"
    path.write_text(changelog.released(path.read_text(encoding="utf-8"), version, date.today()), encoding="utf-8")
    for name in VERSIONED:
        path = ROOT / name
        path.write_text(SAID.sub(rf'\g<1>{version}"', path.read_text(encoding="utf-8")), encoding="utf-8")
    for path in pages():
        path.write_text(TOLD.sub(rf"\g<1>{version}", path.read_text(encoding="utf-8")), encoding="utf-8")
    for folder in projects().values():
        path = folder / "pyproject.toml"
        text = re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', path.read_text(encoding="utf-8"), count=1)
        path.write_text(re.sub(r'("helora-[\w\[\],-]+==)[^"]+"', rf'\g<1>{version}"', text), encoding="utf-8")


BUILT_OF = (".ci/", "helora_core/", "plugins/", "harness/pyproject.toml", "harness/README.md", "harness/LICENSE",
            "harness/src/", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md")  # fmt: skip


def rehearse(out: Path, version: str) -> None:
    """What a release is built of, in a folder, under another version; uncommitted changes too."""
    for name in [name for name in _tracked(ROOT, "--others", "--exclude-standard") if name.startswith(BUILT_OF)]:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, out / name)
    subprocess.run(["git", "init", "--quiet", str(out)], check=True)
    subprocess.run(["git", "-C", str(out), "add", "--all"], check=True)
    subprocess.run([sys.executable, str(out / ".ci" / "release.py"), "version", version], check=True)


def targets() -> dict[str, str]:
    """Wheel tags by target of helora-rns, read from its build.py, which is not imported."""
    text = (projects()[RNS] / "build.py").read_text(encoding="utf-8")
    return dict(re.findall(r'"([\w-]+)": Target\("[^"]+", "(\w+)"', text))


def build(out: Path, which: list[str]) -> None:
    """Sdists, and wheels of the sdists; helora-rns's for the given targets, or for this machine."""
    out.mkdir(parents=True, exist_ok=True)
    common = ["uv", "build", "--quiet", "--no-create-gitignore", "--out-dir", str(out)]
    for name, folder in projects().items():
        started = time.monotonic()
        subprocess.run([*common, "--sdist", str(folder)], check=True)
        (sdist,) = out.glob(f"{name.replace('-', '_')}-*.tar.gz")
        for target in which if name == RNS and which else [""]:
            environment = {**os.environ, "HELORA_RNS_BUILD": target} if target else dict(os.environ)
            subprocess.run([*common, "--wheel", str(sdist)], check=True, env=environment)
            print(f"{name} {target}: {time.monotonic() - started:.0f} s", flush=True)


def check(out: Path, which: list[str], tag: str) -> Iterator[str]:
    """What is wrong with the distributions in a folder."""
    known = projects()
    versions = {name: _field(folder, "version") for name, folder in known.items()}
    if len(set(versions.values())) != 1:
        yield f"versions differ: {versions}"
    version = versions["helora-core"]
    for name, folder in known.items():
        pins = re.findall(r'"helora-[\w\[\],-]+?(?:==([^"]+))?"', _requirements(folder))
        if any(pin != version for pin in pins if not (pin == "" and name == "helora-core")):
            yield f"{name} asks for other helora versions than {version}: {pins}"
    for page in pages():
        told = {each for _, each in TOLD.findall(page.read_text(encoding="utf-8"))} - {version}
        if told:
            yield f"{page.relative_to(ROOT)} tells readers to install {', '.join(sorted(told))}"
    for path in VERSIONED:
        said = [each for _, each in SAID.findall((ROOT / path).read_text(encoding="utf-8"))]
        if said != [version]:
            yield f"{path} says {said}, and the version is {version}"
    if tag:
        if tag != f"v{version}":
            yield f"the tag is {tag}, and the version {version}"
        yield from changelog.wrong((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    for name, folder in known.items():
        stem = f"{name.replace('-', '_')}-{version}"
        wheels = sorted(out.glob(f"{stem}-*.whl"))
        tags = {wheel.stem.split("-")[-1] for wheel in wheels}
        expected = {targets()[target] for target in which} if name == RNS and which else None
        if not wheels or (expected is not None and tags != expected):
            yield f"{name}: wheels for {sorted(tags)}, and not {sorted(expected or {'any'})}"
        for wheel in wheels:
            yield from (f"{wheel.name}: {wrong}" for wrong in _wheel(wheel, name, folder, version))
        sdist = out / f"{stem}.tar.gz"
        if not sdist.is_file():
            yield f"{sdist.name} is missing"
            continue
        yield from (f"{sdist.name}: {wrong}" for wrong in _sdist(sdist, folder))
    stems = tuple(f"{name.replace('-', '_')}-{version}" for name in known)
    strange = [
        path.name for path in out.iterdir() if path.suffix in (".whl", ".gz") and not path.name.startswith(stems)
    ]
    if strange:
        yield f"other distributions lie there too: {strange}"


def _requirements(folder: Path) -> str:
    """The parts of a project file that end up in metadata."""
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    return "\n".join(re.findall(r"(?ms)^dependencies = \[.*?\]$|^\[project\.optional-dependencies\]$.*?(?=^\[)", text))


def _wheel(wheel: Path, name: str, folder: Path, version: str) -> Iterator[str]:
    package = name.replace("-", "_")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = Parser().parsestr(archive.read(f"{package}-{version}.dist-info/METADATA").decode())
        yield from _missing(archive, names, (
            f"{package}/py.typed", f"{package}/__init__.py", "*.dist-info/licenses/LICENSE",
            "*.dist-info/entry_points.txt=[helora]", *PROMISED.get(name, ()),
        ))  # fmt: skip
        yield from _unwanted(names, allowed_tests="_template/tests/")
        source = (folder if name == "helora-core" else folder / "src") / package
        compiled = {path for path in names if path.startswith("helora_rns/_library/")}
        have = {path for path in names if path.startswith(f"{package}/") and "/_template/" not in path} - compiled
        tracked = {f"{package}/{path}" for path in _tracked(source)}
        if have != tracked:
            yield f"it differs from the source: {sorted(have ^ tracked)[:5]}"
        other = [path for path in have & tracked if archive.read(path) != (source.parent / path).read_bytes()]
        if other:
            yield f"it has other bytes than the source: {sorted(other)[:5]}"
        tag = wheel.stem.split("-")[-1]
        if (tag == "any") == bool(compiled):
            yield f"the tag is {tag}, and compiled libraries are {sorted(compiled)}"
        for path in compiled:
            data = archive.read(path)
            wrong = binaries.wrong(data, tag)
            if wrong:
                yield f"{path}: {wrong}"
                continue
            kind, promised = binaries.read(data).format, declared(source / "native" / "helora_rns.h")
            found = linkage.linkage(data, kind)
            # A wheel of this machine alone (linux_x86_64) may need what this machine's compiler brings.
            system = () if tag.startswith("linux_") else linkage.SYSTEM[kind]
            yield from (f"{path}: {each}" for each in linkage.wrong(found, promised, system))
    if metadata["License-Expression"] != "Apache-2.0":
        yield "its metadata has no licence"
    private = "Private :: Do Not Upload" in (metadata.get_all("Classifier") or [])
    if private != (name == PRIVATE):
        yield "the harness, and nothing else, is kept from indexes"


def declared(header: Path) -> frozenset[str]:
    """The functions that the engine's header exports."""
    return frozenset(re.findall(r"(?m)^HR_API [\w ]+?\**\b(hr_\w+)\(", header.read_text(encoding="utf-8")))


def _missing(archive: zipfile.ZipFile, names: list[str], promised: tuple[str, ...]) -> Iterator[str]:
    for entry in promised:
        pattern, _, says = entry.partition("=")
        matching = [name for name in names if Path(name).match(pattern) or name == pattern]
        if not matching or (says and not any(says in archive.read(name).decode() for name in matching)):
            yield f"{entry} is missing"


def _unwanted(names: list[str], allowed_tests: str) -> Iterator[str]:
    bad = [name for name in names if UNWANTED.search(name) or (TESTS.search(name) and allowed_tests not in name)]
    if bad:
        yield f"it has {bad[:5]}"


def _tracked(source: Path, *more: str) -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", *more, "."]
    done = subprocess.run(command, cwd=source, check=True, capture_output=True, text=True)
    return [name for name in done.stdout.split("\0") if name and (source / name).exists()]


def _sdist(sdist: Path, folder: Path) -> Iterator[str]:
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    yield from _unwanted(names, allowed_tests="_template/tests/")
    for needed in ("LICENSE", "README.md", "pyproject.toml"):
        if needed not in names:
            yield f"{needed} is missing"
    for path in [f for f in _tracked(folder) if f.startswith(("src/", "helora_core/", "build.py", "hatch_build.py"))]:
        if path not in names:
            yield f"{path} is missing"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("build", "check", "sbom"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path)
        command.add_argument("--targets", default="", help="of helora-rns: names, or all; this machine's by default")
        command.add_argument("--tag", default="", help="the tag that is released: version and changelog must agree")
    commands.add_parser("version").add_argument("version")
    command = commands.add_parser("rehearse")
    command.add_argument("folder", type=Path)
    command.add_argument("version")
    commands.add_parser("names")
    asked = parser.parse_args()
    if asked.command == "names":
        print(*(name for name in projects() if name != PRIVATE), sep="\n")
        return 0
    if asked.command == "version":
        set_version(asked.version)
        return 0
    if asked.command == "rehearse":
        rehearse(asked.folder.resolve(), asked.version)
        return 0
    which = list(targets()) if asked.targets == "all" else [name for name in asked.targets.split(",") if name]
    if asked.command == "build":
        build(asked.folder, which)
        return 0
    if asked.command == "sbom":
        names = [name for name in projects() if name != PRIVATE]
        wrong = bill.made(asked.folder.resolve(), names, _field(ROOT, "version"))
        print("\n".join(wrong) or f"{asked.folder / bill.FILE} and SHA256SUMS list all that there is")
        return 1 if wrong else 0
    wrong = list(check(asked.folder, which, asked.tag))
    print("\n".join(wrong) or f"{len(list(asked.folder.glob('helora_*')))} distributions hold what they promise")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
