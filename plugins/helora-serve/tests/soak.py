"""A soak of a server in a process of its own: malformed frames, then 1, 8 and 32 clients that generate at once.

``python soak.py`` takes an hour and more on an idle machine, and writes ``harness/serving.json`` and from it
``docs/serving-figures.md``; ``--seconds 20`` is for a try, ``--render`` writes the page alone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import noise
import soak_figures
import soak_page
import soak_server
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from soak_clients import Clients, recorded
from soak_figures import Figures, Load, Malformed
from soak_overhead import Overhead, overhead
from soak_server import BareLoop, Process

from helora_core.adapter.lora import ModuleShape
from helora_core.adapter.synthetic import synthetic_activations, synthetic_module
from helora_core.compiler.compile import compile_plan
from helora_core.compiler.compiled import CompiledModule, Part
from helora_core.data.bundled import DIRECTORY
from helora_core.host.manager import get_manager
from helora_core.parties.client import Client
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_harness.lm import conditions
from helora_serve.client import connect

NOISE_SHAPE = ModuleShape.parse("24:20:3")
PLANS: dict[str, tuple[str, ...]] = {
    "online": (),
    "precomputed": ("--packing", "precomputed", "--assume", "honest-keys"),
}
REQUESTS = {"online": 200, "precomputed": 4000}
SHARES = (0.5, 0.95, 0.99, 1.0)
LAG_SHARES = (0.5, 0.99, 0.999)
BACKEND = "rns"

Say = Callable[[str, float], None]
"""Tells what is being done, and how far it is."""


def compiled(folder: Path, plan: str) -> Path:
    """The bundled adapter, compiled in a process of its own: this one is going to be forked."""
    command = [sys.executable, "-m", "helora_core", "compile", "--adapter", str(DIRECTORY / "adapter"), "--tokens", "1"]
    subprocess.run(
        [*command, "--share", "--backend", BACKEND, *PLANS[plan], "--out", str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return folder


def malformed(frames: int, folder: Path, say: Say) -> Malformed:
    """Send malformed frames; between them a client is served, and afterwards memory is what it was."""
    module, steps = synthetic_module(NOISE_SHAPE, seed=1, name="q"), 10
    plan = compile_plan(NOISE_SHAPE, get_manager().load_packing("rank_bsgs"), module=module)
    lora = (CompiledModule(module, (Part(name="q", d_out=NOISE_SHAPE.d_out),), plan),)
    CompiledLoRA(lora, get_manager().load_backend("numpy"), secure=False).save(folder)
    server = Process(folder, "numpy", "--ttl", "2", "--sessions", "4096", "--client-sessions", "4096")
    x, right = synthetic_activations(NOISE_SHAPE, 1, seed=0), 0
    try:
        with connect(server.url) as remote, connect(server.url) as other:
            client = Client(remote.offer())
            session = remote.open(client.evaluation_keys())
            noise.soak(other, max(1, frames // 10), seed=0)
            before = server.mib
            for step in range(steps):
                say("malformed frames", step / steps)
                noise.soak(other, frames // steps, seed=1 + step)
                delta = client.delta("q", x, session)
                right += bool(abs(delta - module.reference_delta(x)).max() < 1e-3)
            time.sleep(5)
            after, found = server.mib, server.metrics()
    finally:
        server.stop()
    return Malformed(
        frames=frames,
        right=right,
        asked=steps,
        mib_before=round(before),
        mib_after=round(after),
        faults=int(found.get('helora_http_refusals_total{code="helora-error"}', 0)),
    )


def generating(plan: str, count: int, seconds: float, inputs: int, served: Path, say: Say) -> Load:
    """Clients that generate at once."""
    what, ahead, options = f"{plan}, {count} clients", plan == "precomputed", list(PLANS[plan][2:])
    server = Process(
        served, BACKEND, "--sessions", str(count), "--ttl", "900", "--window", str(soak_page.WINDOW_MIB), *options
    )
    try:
        idle = server.mib
        clients = Clients(
            server.url, count, inputs, ahead=ahead, on_ready=lambda ready: say(f"{what}: connecting", ready / count)
        )
        opened, bare, before, cpu, machine = server.mib, BareLoop(), server.metrics(), server.cpu_s(), _stolen()
        start = time.monotonic()
        clients.begin(seconds)
        while (elapsed := time.monotonic() - start) < seconds:
            say(what, elapsed / seconds)
            time.sleep(min(0.5, seconds - elapsed))
        whole, after, used, machine_after = time.monotonic() - start, server.metrics(), server.cpu_s(), _stolen()
        alone, done, most = bare.stop(), clients.done(), server.most_mib
    finally:
        server.stop()
    counts, per_token = [len(each.answers) for each in done], len(recorded(1 << 10))

    def mean_ms(name: str) -> float:
        many = after[f"{name}_count"] - before[f"{name}_count"]
        return round(1e3 * (after[f"{name}_sum"] - before[f"{name}_sum"]) / many, 3) if many else 0.0

    p50, p95, p99, longest = soak_figures.percentiles([each.answers for each in done], SHARES)
    limits = server.started["limits"]
    holds = limits["weight_bytes"] + count * (server.started["session_bytes"] + server.started["key_bytes"])
    lags = [soak_server.lag_ms(after, before, share) for share in LAG_SHARES]
    alones = [soak_server.lag_ms(alone, {}, share) for share in LAG_SHARES]
    return Load(
        plan=plan,
        clients=count,
        seconds=seconds,
        inputs=len(clients.inputs),
        requests=sum(counts),
        tokens_per_s=round(sum(counts) / per_token / whole, 3),
        per_token=per_token,
        answer_ms=(p50, p95, p99, longest),
        delta_ms=soak_figures.percentiles([each.deltas for each in done], (0.5,))[0],
        jain=round(soak_figures.jain(counts), 4),
        least_of_most=round(min(counts) / max(counts), 3),
        ahead_share=round(sum(each.ahead_s for each in done) / (count * whole), 3),
        server_cores=round((used[0] - cpu[0]) / whole, 2),
        loop_cores=round((used[1] - cpu[1]) / whole, 2),
        client_cores=round(sum(each.cpu_s for each in done) / whole, 2),
        idle_mib=round(idle),
        opened_mib=round(opened),
        most_mib=round(most),
        bound_mib=round(idle + holds / (1 << 20)),
        lag_ms=(lags[0], lags[1], lags[2]),
        bare_lag_ms=(alones[0], alones[1], alones[2]),
        compute_ms=mean_ms("helora_compute_seconds"),
        wait_ms=mean_ms("helora_wait_seconds"),
        right=all(each.right for each in done),
        steal=round((machine_after[0] - machine[0]) / max(1, machine_after[1] - machine[1]), 4),
    )


def _stolen() -> tuple[int, int]:
    """Ticks of all processors that others took, and all ticks."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[7], sum(ticks)


@contextlib.contextmanager
def _telling() -> Iterator[Say]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        last = [""]

        def say(what: str, share: float) -> None:
            if what != last[0]:
                bar.reset(task, description=what)
                last[0] = what
            bar.update(task, completed=share)

        yield say


def main(given: argparse.Namespace) -> None:
    """Measure what was asked for; each part is written as soon as it is there."""
    ended = conditions.begin(BACKEND, threads=1, link="WebSocket, loopback", adapter=DIRECTORY / "adapter")
    found: list[Load] = []
    over: list[Overhead] = []
    noisy: Malformed | None = None
    with tempfile.TemporaryDirectory() as place, _telling() as say:
        if given.frames:
            noisy = malformed(given.frames, Path(place) / "noise", say)
        for plan in filter(None, given.plans.split(",")):
            say(f"compiling for {plan}", 0.0)
            served = compiled(Path(place) / plan, plan)
            say(f"{plan}: one request, served and in process", 0.0)
            server = Process(served, BACKEND, "--ttl", "900", *PLANS[plan][2:])
            try:
                over.append(overhead(plan, served, server.url, BACKEND, REQUESTS[plan]))
            finally:
                server.stop()
            for count in (int(each) for each in given.clients.split(",")):
                inputs = given.inputs if plan == "precomputed" else 1 << 10
                found.append(generating(plan, count, given.seconds, inputs, served, say))
                figures = Figures(conditions=ended(), loads=tuple(found), overheads=tuple(over), malformed=noisy)
                soak_figures.write(figures, given.output)
    print(soak_page.tables(figures))
    if given.output == soak_figures.FIGURES:
        soak_page.PAGE.write_text(soak_page.rendered(figures), encoding="utf-8")
    problems = soak_page.problems(figures)
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000, help="malformed frames; 0 for none")
    parser.add_argument("--clients", default="1,8,32", help="how many at once, one after another")
    parser.add_argument("--seconds", type=float, default=600.0, help="that each number of clients generates for")
    parser.add_argument("--plans", default="online,precomputed")
    parser.add_argument("--inputs", type=int, default=2, help="that each client has pools for, precomputed")
    parser.add_argument("--output", type=Path, default=soak_figures.FIGURES)
    parser.add_argument("--render", action="store_true", help="write the page alone")
    asked = parser.parse_args()
    if asked.render:
        soak_page.PAGE.write_text(soak_page.rendered(soak_figures.read(asked.output)), encoding="utf-8")
    else:
        os.environ["HELORA_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
        main(asked)
