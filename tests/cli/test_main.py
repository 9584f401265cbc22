"""``helora`` itself: quick to start, one way to refuse, and everything of it documented."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import helora_core
from helora_core import __version__, errors
from helora_core.cli.main import main
from helora_core.errors import HeloraError

ADAPTER = Path(helora_core.__file__).parent / "data" / "smollm2_lora" / "adapter"
COMMANDS = (
    "backends", "calibrate", "compile", "conform", "demo", "doctor", "explain", "new-backend", "packings", "plan",
    "predict", "run",
)  # fmt: skip


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command_with_its_first_line(helora: Callable[..., Any], flag: str) -> None:
    shown = helora(flag)
    assert shown.exit_code == 0
    for name in COMMANDS:
        command = main.get_command(main.make_context("helora", ["backends"]), name)
        assert command is not None
        assert f"{name} " in shown.stdout
        assert (command.help or "").splitlines()[0] in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_describes_every_option(helora: Callable[..., Any], command: str) -> None:
    shown = helora(command, "--help")
    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"Usage: helora {command}") or f"{command} [OPTIONS]" in shown.stdout
    found = main.get_command(main.make_context("helora", ["backends"]), command)
    assert found is not None
    for option in found.params:
        if option.param_type_name == "option":
            assert option.opts[-1] in shown.stdout
            assert option.help  # type: ignore[attr-defined]


def test_version_as_a_module(in_new_process: Callable[..., Any]) -> None:
    shown = in_new_process("-m", "helora_core", "--version")
    assert (shown.returncode, shown.stdout) == (0, f"helora, version {__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["plan", "--help"]])
def test_asking_for_help_imports_no_numpy_no_tables_and_no_he_library(
    in_new_process: Callable[..., Any], arguments: list[str]
) -> None:
    code = (
        "import sys\nfrom helora_core.cli.main import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "heavy = {'numpy', 'rich', 'safetensors', 'tenseal'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    shown = in_new_process("-c", code)
    assert shown.returncode == 0, shown.stderr


class TestRefusals:
    def test_an_unknown_backend_is_refused_with_what_may_have_been_meant(self, refusal: Callable[..., Any]) -> None:
        error = refusal("demo", "--backend", "tensael", "--module", "layers.0.self_attn.q_proj")
        assert error["code"] == "backend-unavailable"
        assert "'tensael'" in error["message"]
        assert "tenseal" in error["hint"]

    def test_an_unknown_packing_is_refused_with_what_may_have_been_meant(self, refusal: Callable[..., Any]) -> None:
        error = refusal("plan", "--shape", "8:8:2", "--packing", "rank_bsg")
        assert error["code"] == "packing-unavailable"
        assert "rank_bsgs" in error["hint"]

    def test_an_unknown_module_is_refused_with_what_may_have_been_meant(self, refusal: Callable[..., Any]) -> None:
        error = refusal("demo", "--module", "q_prj")
        assert error["code"] == "invalid-input"
        assert "q_proj" in error["hint"]

    @pytest.mark.parametrize(
        ("arguments", "meant"),
        [
            (["dmeo"], "'demo'"),
            (["bench", "cuonts"], "'counts'"),
            (["bench", "planner", "chekc"], "'check'"),
            (["model", "fecth"], "'fetch'"),
            (["demo", "--modul", "q_proj"], "--module"),
            (["plan", "--shape", "8:8:2", "--security-table", "guidlines-2024"], "'guidelines-2024'"),
            (["plan", "--shape", "8:8:2", "--assume", "honest-key"], "'honest-keys'"),
            (["plan", "--model", "qwen2.5-1.b"], "'qwen2.5-1.5b'"),
            (["plan", "--model", "qwen2.5-1.5b", "--module", "q_prj"], "q_proj"),
        ],
        ids=" ".join,
    )
    def test_what_may_have_been_meant_is_named(
        self, helora: Callable[..., Any], arguments: list[str], meant: str
    ) -> None:
        shown = helora(*arguments)
        assert shown.exit_code == 2
        assert "Did you mean" in shown.stderr
        assert meant in shown.stderr.partition("Did you mean")[2]

    @pytest.mark.parametrize("pattern", ["layers.*.q_prj", "layers.3.q_proj", "*.q_poj"])
    def test_what_a_misspelt_pattern_is_said_to_mean_is_there(
        self, refusal: Callable[..., Any], helora_json: Callable[..., Any], pattern: str
    ) -> None:
        hint = refusal("demo", "--module", pattern)["hint"]
        first = hint.partition("Did you mean ")[2].partition(",")[0].rstrip("?")
        found = helora_json("plan", "--adapter", ADAPTER, "--module", first)
        assert found

    def test_json_may_stand_anywhere_among_the_arguments(self, helora: Callable[..., Any]) -> None:
        shown = helora("plan", "--json", "--shape", "8:8:0")
        assert shown.exit_code == 1
        assert json.loads(shown.stdout)["error"]["code"] == "invalid-input"

    def test_a_backend_that_is_not_there_does_not_conform(self, helora: Callable[..., Any]) -> None:
        shown = helora("conform", "nope")
        assert shown.exit_code == 1
        assert "error [backend-unavailable]" in shown.stderr

    def test_a_broken_settings_file_is_refused_in_json_too(
        self, refusal: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """It is read before the command knows its options."""
        (tmp_path / "broken.toml").write_text("ring = ", encoding="utf-8")
        monkeypatch.setenv("HELORA_CONFIG", str(tmp_path / "broken.toml"))
        assert "broken.toml" in refusal("packings")["message"]

    @pytest.mark.parametrize(
        "arguments",
        [
            ["plan"],
            ["plan", "--shape", "8:8:2", "--adapter", "x"],
            ["plan", "--shape", "8:8:2", "--ring", "big"],
            ["plan", "--shape", "8:8:2", "--tokens", "0"],
            ["plan", "--shape", "8:8:2", "--security", "100"],
            ["demo", "--tokens", "33"],
            ["run", "--adapter", "x"],
            ["backends", "--yaml"],
            ["encrypt"],
        ],
        ids=" ".join,
    )
    def test_a_wrong_command_line_is_exit_status_2(self, helora: Callable[..., Any], arguments: list[str]) -> None:
        shown = helora(*arguments)
        assert shown.exit_code == 2
        assert shown.stdout == ""
        assert "Usage: " in shown.stderr


class TestDocumentation:
    def test_every_command_has_its_section(self, documented: Callable[..., set[str]]) -> None:
        linked = {name.partition("]")[0].strip("[`") for name in documented("Command line", "command")}
        assert linked == {f"helora {name}" for name in COMMANDS}

    def test_every_error_code_is_listed(self, documented: Callable[..., set[str]]) -> None:
        codes = {kind.code for _, kind in inspect.getmembers(errors, inspect.isclass) if kind is not HeloraError}
        assert documented("What all commands have in common", "code") == codes

    def test_the_keys_of_a_refusal_are_listed(
        self, documented: Callable[..., set[str]], refusal: Callable[..., Any]
    ) -> None:
        error = refusal("plan", "--shape", "1536:256:0")
        assert documented("What all commands have in common", "key of `error`") == set(error)

    def test_the_keys_of_a_new_backend_are_listed(
        self, documented: Callable[..., set[str]], helora_json: Callable[..., Any]
    ) -> None:
        assert documented("helora new-backend") == set(helora_json("new-backend", "zeta"))

    def test_every_variable_is_listed(self, documented: Callable[..., set[str]]) -> None:
        package = Path(errors.__file__).parent
        sources = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
        used = {word for word in sources.replace('"', " ").replace("`", " ").replace("$", " ").replace("=", " ").split()
                if word.startswith("HELORA_") and word.isupper() and word[7:].replace("_", "").isalpha()}  # fmt: skip
        assert used - {"HELORA_COMPLETE"} <= documented("Defaults", "variable")


class TestCompletion:
    @pytest.fixture
    def program(self) -> str:
        found = shutil.which("helora", path=str(Path(sys.executable).parent))
        assert found, "helora is not installed in this environment"
        return found

    def complete(self, in_new_process: Callable[..., Any], program: str, words: str) -> list[str]:
        shown = in_new_process(
            program, _HELORA_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1)
        )
        assert shown.returncode == 0, shown.stderr
        return [line.partition(",")[2] for line in shown.stdout.splitlines()]

    def test_the_documented_way_gives_bash_a_function(self, in_new_process: Callable[..., Any], program: str) -> None:
        shown = in_new_process(program, _HELORA_COMPLETE="bash_source")
        assert shown.returncode == 0
        assert "_helora_completion()" in shown.stdout

    @pytest.mark.parametrize(
        ("words", "completed"),
        [
            (["helora", "calib"], ["calibrate"]),
            (["helora", "plan", "--sha"], ["--shape", "--share"]),
            (["helora", "plan", "--packing", "rank"], ["rank_bsgs"]),
            (["helora", "demo", "--backend", "tens"], ["tenseal"]),
            (["helora", "explain", "--model", "qwen2.5-1"], ["qwen2.5-1.5b"]),
            (["helora", "conform", "nump"], ["numpy"]),
            (["helora", "bench", "over"], ["overhead"]),
        ],
        ids=" ".join,
    )
    def test_bash_completes_what_was_begun(self, program: str, words: list[str], completed: list[str]) -> None:
        bash = shutil.which("bash")
        if bash is None:
            pytest.skip("bash is not installed")
        script = (
            'eval "$(_HELORA_COMPLETE=bash_source helora)"; complete -p helora >&2; '
            'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _helora_completion helora; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        path = os.pathsep.join([str(Path(program).parent), os.environ["PATH"]])
        shown = subprocess.run(
            [bash, "--norc", "-c", script, "bash", *words],
            env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        assert shown.stdout.split() == completed
        assert "-F _helora_completion helora" in shown.stderr

    @pytest.mark.parametrize(
        ("name", "script"),
        [
            ("zsh", 'autoload -U compinit; compinit -u -D; eval "$(_HELORA_COMPLETE=zsh_source helora)"; '
                    "print -r -- $_comps[helora]"),
            ("fish", '_HELORA_COMPLETE=fish_source helora | source; complete -C "helora plan --packing rank"'),
        ],
    )  # fmt: skip
    def test_zsh_and_fish_take_their_scripts(self, program: str, name: str, script: str) -> None:
        shell = shutil.which(name)
        if shell is None:
            pytest.skip(f"{name} is not installed")
        path = os.pathsep.join([str(Path(program).parent), os.environ["PATH"]])
        shown = subprocess.run(
            [shell, "-f" if name == "zsh" else "--no-config", "-c", script],
            env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        assert shown.stdout.split() == ["_helora_completion" if name == "zsh" else "rank_bsgs"]

    @pytest.mark.parametrize(
        ("begun", "completed"),
        [("p", {"packings", "plan", "predict", "proxy"}), ("plan --packing rank", {"rank_bsgs"})],
    )
    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_every_shell_is_answered_in_its_own_form(
        self, in_new_process: Callable[..., Any], program: str, shell: str, begun: str, completed: set[str]
    ) -> None:
        words = f"helora {begun}"
        last = begun.split(" ")[-1] if shell == "fish" else str(len(begun.split(" ")))
        script = in_new_process(program, _HELORA_COMPLETE=f"{shell}_source")
        assert f"_HELORA_COMPLETE={shell}_complete" in script.stdout
        answer = in_new_process(program, _HELORA_COMPLETE=f"{shell}_complete", COMP_WORDS=words, COMP_CWORD=last)
        assert (script.returncode, answer.returncode) == (0, 0)
        lines = answer.stdout.splitlines()
        if shell == "zsh":  # kind, value and description, a line each
            assert set(lines[::3]) == {"plain"}
            assert set(lines[1::3]) == completed
        else:
            assert {line.partition(",")[2].partition("\t")[0] for line in lines} == completed

    def test_commands_and_options_are_completed(self, in_new_process: Callable[..., Any], program: str) -> None:
        assert self.complete(in_new_process, program, "helora p") == ["packings", "plan", "predict", "proxy"]
        assert self.complete(in_new_process, program, "helora plan --sh") == ["--shape", "--share", "--show"]


def test_names_of_files_that_are_no_unicode_are_shown_in_json_too(refusal: Callable[..., Any], tmp_path: Path) -> None:
    name = os.fsdecode(b"adapter-\xff")
    error = refusal("plan", "--adapter", str(tmp_path / name))
    assert "adapter-\\udcff" in error["message"]
