"""The bill of materials: ``helora.cdx.json``, in CycloneDX 1.6, of what an empty environment gets; and SHA256SUMS.

What it lists is held to what was installed and to what each package's metadata asks for, beside CycloneDX's schema,
which its generator holds it to.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = "helora.cdx.json"
GENERATOR = "cyclonedx-bom>=7,<8"

ASK = """
import json, re
from importlib.metadata import distributions
name = lambda text: re.sub(r"[-_.]+", "-", text).lower()
print(json.dumps({name(d.metadata["Name"]): [d.version, [[name(re.match(r"[\\w.-]+", r)[0]), ";" in r]
      for r in d.requires or []]] for d in distributions()}))
"""
"""Run by the environment's own Python: versions, and names asked for, with whether a marker follows."""

Installed = dict[str, tuple[str, list[tuple[str, bool]]]]


def made(folder: Path, names: list[str], version: str) -> list[str]:
    """Write both files; what is wrong with them, which is nothing for a release.

    ``names`` are distributions of the folder, installed in one version, with all that ``helora-core[all]`` brings.
    """
    with tempfile.TemporaryDirectory() as name:
        environment = Path(name, "venv")
        venv.create(environment)
        python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        asked = [f"{each}=={version}" for each in names]
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", str(python), "--find-links", str(folder),
                        f"helora-core[all]=={version}", *asked], check=True)  # fmt: skip
        # It validates what it writes against CycloneDX's schema, and fails if that does not hold.
        subprocess.run(
            ["uvx", "--quiet", "--from", GENERATOR, "cyclonedx-py", "environment", "--validate",
             "--output-reproducible", "--spec-version", "1.6", "--output-file", str(folder / FILE),
             str(python)], check=True)  # fmt: skip
        shown = subprocess.run([str(python), "-c", ASK], check=True, capture_output=True, text=True).stdout
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".whl", ".gz") or path.name == FILE]
    digests = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (folder / "SHA256SUMS").write_text("".join(digests), encoding="utf-8")
    document = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return list(wrong(document, json.loads(shown), names, version))


def wrong(document: dict[str, Any], installed: Installed, names: list[str], version: str) -> Iterator[str]:
    """Where a bill differs from an environment: packages, versions, licences of ours, and who asks for whom."""
    if (document.get("bomFormat"), document.get("specVersion")) != ("CycloneDX", "1.6"):
        yield "it is not CycloneDX 1.6"
    components = {_name(each["name"]): each for each in document.get("components", ())}
    listed = {name: each.get("version") for name, each in components.items()}
    if listed != {name: each[0] for name, each in installed.items()}:
        different = {item[0] for item in set(listed.items()) ^ {(n, each[0]) for n, each in installed.items()}}
        yield f"it lists other packages or versions than were installed: {sorted(different)[:5]}"
    for name in names:
        licences = str(components.get(name, {}).get("licenses", ""))
        if listed.get(name) != version or "Apache-2.0" not in licences:
            yield f"it does not list {name} {version} under Apache-2.0"
    names_of = {each.get("bom-ref"): name for name, each in components.items()}
    edges = {
        names_of.get(each["ref"]): {names_of.get(ref) for ref in each.get("dependsOn", ())}
        for each in document.get("dependencies", ())
    }
    for name, (_, asked) in installed.items():
        needed = {each for each, marked in asked if not marked and each != name}
        if name not in edges or needed - edges[name]:
            yield f"it lacks what {name} depends on: {sorted(needed - edges.get(name, set()))}"


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()
