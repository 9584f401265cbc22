"""Files in ``deploy`` name commands, options, files and secrets that there are; and images build where Docker is."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from helora_core.cli.main import main

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
IMAGES = ("server", "proxy")


def helora(arguments: list[str]) -> None:
    """Read a command line of helora as helora does, without running it."""
    context = click.Context(main, info_name="helora")
    name, *rest = arguments
    command = main.get_command(context, name)
    assert command is not None, f"there is no helora {name}"
    options, left, _ = command.make_parser(click.Context(command, parent=context)).parse_args(list(rest))
    assert left == []
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and parameter.required:
            given = options.get(parameter.name)
            assert isinstance(given, (str, tuple)), f"helora {name} lacks {parameter.name}"
            assert given


def instructions(image: str) -> dict[str, list[str]]:
    """What a Dockerfile says, by instruction; the last stage's."""
    text = (DEPLOY / f"Dockerfile.{image}").read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.rpartition("\nFROM ")[2].splitlines()[1:]:
        if line and not line.startswith("#"):
            instruction, _, rest = line.partition(" ")
            found.setdefault(instruction, []).append(rest)
    return found


def command_of(image: str) -> list[str]:
    (entry,) = instructions(image)["ENTRYPOINT"]
    program, *arguments = json.loads(entry)
    assert program == "helora"
    return list(arguments)


@pytest.mark.parametrize("image", IMAGES)
def test_images_start_a_command_that_there_is_and_not_as_root(image: str) -> None:
    said = instructions(image)
    helora([*command_of(image), *json.loads(said["CMD"][0])])
    assert said["USER"] == ["helora"]
    text = (DEPLOY / f"Dockerfile.{image}").read_text(encoding="utf-8")
    installed = re.findall(r"\./plugins/[\w-]+", text)
    assert installed
    for folder in installed:
        assert (ROOT / folder / "pyproject.toml").is_file()


def test_the_compose_file_starts_what_there_is_with_what_it_declares() -> None:
    yaml = pytest.importorskip("yaml")
    composed: Any = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    services = composed["services"]
    assert set(services) == set(IMAGES)
    for name, service in services.items():
        helora([*command_of(name), *service["command"]])
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert set(service["secrets"]) <= set(composed["secrets"])
        assert set(service["networks"]) <= set(composed["networks"])
        used = {each.partition("=/run/secrets/")[2] for each in service["command"] if "=/run/secrets/" in each}
        assert used == set(service["secrets"])
        assert service["read_only"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
    assert "ports" not in services["server"]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for secret in composed["secrets"].values():
        first = Path(secret["file"]).parts[0]
        assert f"deploy/{first}" in ignored, "a secret would be in the image"


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*.service")), ids=lambda unit: unit.stem)
def test_units_start_a_command_that_there_is(unit: Path) -> None:
    lines = unit.read_text(encoding="utf-8").splitlines()
    sections = [line for line in lines if line.startswith("[")]
    assert sections == ["[Unit]", "[Service]", "[Install]"]
    assert all(re.fullmatch(r"[A-Z]\w+=.*", line) for line in lines if line and line[0] not in "#[")
    (start,) = (line.partition("=")[2] for line in lines if line.startswith("ExecStart="))
    program, *arguments = shlex.split(start)
    assert Path(program).name == "helora"
    helora(arguments)


def test_a_command_line_that_is_wrong_is_noticed() -> None:
    for wrong in (["proxy"], ["proxy", "tcp://x", "--prot", "1"], ["proxi", "tcp://x"]):
        with pytest.raises((AssertionError, click.UsageError)):
            helora(wrong)


def _docker() -> bool:
    return bool(shutil.which("docker")) and subprocess.run(["docker", "info"], capture_output=True).returncode == 0


@pytest.mark.thorough
@pytest.mark.parametrize("image", IMAGES)
def test_images_build(image: str) -> None:
    if not _docker():
        pytest.skip("there is no Docker here")
    build = ["docker", "build", "--file", f"deploy/Dockerfile.{image}", "--quiet", "."]
    made = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert made.returncode == 0, made.stderr
    shown = subprocess.run(
        ["docker", "run", "--rm", made.stdout.strip(), "--help"], capture_output=True, text=True, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
