"""Programs on the device: the CPU engine's bits, for any keys, weights and inputs, by one recording."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import pytest

from helora_core.backend.tape import Instruction, InstructionKind, LevelAndScale, Tape, TapeConstant, TapeRun
from helora_core.params.ckks import CKKSParams
from helora_cupy import executable as executables
from helora_cupy.backend import CupyBackend
from helora_cupy.executable import DeviceExecutable
from helora_cupy.launches import groups, widened
from helora_cupy.running import RunningShim
from helora_rns.backend import RNSBackend

PARAMS = RNSBackend().resolve(CKKSParams(ring_degree=1024, data_bits=(49, 40, 40), special_bits=(50,), scale_bits=40))
SCALE, STEPS = 2.0**40, (1, 5, 300)


def tape() -> Tape:
    """Rotations, weighted and summed; the sum rotated, added to itself, rescaled. The input comes back, too."""
    square = SCALE * SCALE
    made = [
        Instruction(kind=InstructionKind.ROTATE, args=(0,), result=1, level=2, scale=SCALE, steps=STEPS),
        Instruction(
            kind=InstructionKind.DOT_PLAIN, args=(1, 2, 3), result=4, level=2, scale=square, constants=("a", "b", "c")
        ),
        Instruction(kind=InstructionKind.ROTATE, args=(4,), result=5, level=2, scale=square, steps=(5,)),
        Instruction(kind=InstructionKind.ADD, args=(4, 5), result=6, level=2, scale=square),
        Instruction(
            kind=InstructionKind.RESCALE, args=(6,), result=7, level=1, scale=square / PARAMS.data_primes[2]
        ),
    ]  # fmt: skip
    constants = {name: TapeConstant(2, SCALE) for name in "abc"}
    return Tape((LevelAndScale(2, SCALE),), constants, tuple(made), (7, 0))


def rescaled_products() -> Tape:
    """Products, each rescaled, and their sum: what one rescale no longer needs must not be where another one writes."""
    square, low = SCALE * SCALE, SCALE * SCALE / PARAMS.data_primes[2]
    made = [
        Instruction(
            kind=InstructionKind.MULTIPLY_PLAIN, args=(0,), result=1 + i, level=2, scale=square, constants=(name,)
        )
        for i, name in enumerate("abc")
    ]  # fmt: skip
    made += [Instruction(kind=InstructionKind.RESCALE, args=(i,), result=3 + i, level=1, scale=low) for i in (1, 2, 3)]
    made.append(Instruction(kind=InstructionKind.ADD, args=(4, 5, 6), result=7, level=1, scale=low))
    constants = {name: TapeConstant(2, SCALE) for name in "abc"}
    return Tape((LevelAndScale(2, SCALE),), constants, tuple(made), (7,))


class Ready(NamedTuple):
    """A backend with the program prepared, two modules' weights, and clients' evaluators."""

    executable: Any
    weights: list[Any]
    servers: list[Any]


def clients(count: int) -> list[Any]:
    return [RNSBackend().generate_keys(PARAMS, STEPS)[0] for _ in range(count)]


def ready(backend: RNSBackend, owners: list[Any], program: Tape | None = None) -> Ready:
    executable, encoder = backend.prepare(PARAMS, program or tape()), backend.encoder(PARAMS)
    weights = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        plain = {name: encoder.encode(rng.uniform(-1, 1, 512), level=2, scale=SCALE) for name in "abc"}
        weights.append(executable.load(plain, {}))
    return Ready(executable, weights, [backend.load_evaluator(PARAMS, each.evaluation_keys()) for each in owners])


def sealed(owner: Any, seed: int) -> bytes:
    values = np.random.default_rng(seed).uniform(-1, 1, 512)
    return bytes(owner.serialize(owner.encrypt(values, scale=SCALE)))


def results(own: Ready, sent: list[tuple[int, int, bytes]]) -> list[list[bytes]]:
    """Of runs given by client, module and message."""
    runs = [TapeRun(own.servers[c], own.weights[m], (own.servers[c].deserialize(data),)) for c, m, data in sent]
    outputs = own.executable.run(runs)
    return [[own.servers[c].serialize(out) for out in made] for (c, _, _), made in zip(sent, outputs, strict=True)]


def test_many_runs_of_several_clients_and_modules_have_the_bits_of_the_cpu_engine() -> None:
    owners = clients(3)
    sent = [(i % 3, i % 2, sealed(owners[i % 3], i)) for i in range(7)]
    assert results(ready(CupyBackend(), owners), sent) == results(ready(RNSBackend(), owners), sent)


@pytest.mark.parametrize("program", [tape(), rescaled_products()])
def test_steps_of_one_launch_do_not_share_memory(program: Tape) -> None:
    """Blocks run in any order: what one step writes must not be where another one of the launch reads."""
    device = CupyBackend(RunningShim()).prepare(PARAMS, program)
    wide = widened(device._lowered, 1)
    first, sizes = wide.slots.total - len(wide.slots.scratch), wide.slots.scratch
    for group in groups(wide.steps):
        used = sorted({ref.slot - first for step in group for ref in step.refs if ref.slot >= first})
        rows = [device._launches.buffers.starts[slot] + i for slot in used for i in range(sizes[slot])]
        assert len(set(rows)) == len(rows)


def test_rescaled_products_have_the_bits_of_the_cpu_engine() -> None:
    owners = clients(1)
    sent = [(0, i % 2, sealed(owners[0], i)) for i in range(2)]
    device, cpu = (ready(backend, owners, rescaled_products()) for backend in (CupyBackend(), RNSBackend()))
    assert results(device, sent) == results(cpu, sent)


def test_other_keys_weights_and_inputs_are_run_by_the_same_recording() -> None:
    owners = clients(2)
    device, cpu = ready(CupyBackend(), owners), ready(RNSBackend(), owners)
    for client, module, seed in ((0, 0, 1), (1, 0, 2), (1, 1, 3), (0, 1, 4)):
        sent = [(client, module, sealed(owners[client], seed))]
        assert results(device, sent) == results(cpu, sent)
    assert device.executable.graphs.made == 1
    results(device, [(0, 0, sealed(owners[0], 5)), (1, 1, sealed(owners[1], 6))])
    assert device.executable.graphs.made == 2


def test_what_does_not_fit_one_launch_is_run_in_equal_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = clients(1)
    sent = [(0, i % 2, sealed(owners[0], i)) for i in range(6)]
    expected = results(ready(RNSBackend(), owners), sent)
    monkeypatch.setattr(executables, "MOST_TOGETHER", 4)
    device = ready(CupyBackend(), owners)
    assert results(device, sent) == expected
    assert device.executable.graphs.made == 1
    limited = ready(CupyBackend(RunningShim(64 << 20)), owners)
    monkeypatch.setattr(executables, "MOST_BYTES", 1)
    assert results(ready(CupyBackend(RunningShim(64 << 20)), owners), sent) == results(limited, sent) == expected


def test_threads_share_an_executable() -> None:
    owners = clients(2)
    device = ready(CupyBackend(), owners)
    sent = [[(i % 2, i % 2, sealed(owners[i % 2], i))] for i in range(6)]
    expected = [results(device, each) for each in sent]
    found: dict[int, Any] = {}
    start = threading.Barrier(len(sent))

    def work(i: int) -> None:
        start.wait()
        found[i] = results(device, sent[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(sent))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [found[i] for i in range(len(sent))] == expected


def test_a_recording_does_nothing_before_it_is_replayed() -> None:
    device = RunningShim()
    ring = CupyBackend(device).context(PARAMS)
    x = device.put(np.arange(3 * 1024, dtype=np.uint64).reshape(1, 3, 1024))
    recording = device.recorded(lambda: ring.kernels.forward(x, (0, 1, 2)))
    before = x.copy()
    np.testing.assert_array_equal(x, np.arange(3 * 1024, dtype=np.uint64).reshape(1, 3, 1024))
    recording.replay()
    once = x.copy()
    x[...] = before
    recording.replay()
    np.testing.assert_array_equal(x, once)
    assert not np.array_equal(once, before)


def test_an_executable_says_what_it_did() -> None:
    owners = clients(1)
    device = ready(CupyBackend(), owners)
    assert isinstance(device.executable, DeviceExecutable)
    done: dict[str, int] = {}
    server = device.servers[0]
    run = TapeRun(server, device.weights[0], (server.deserialize(sealed(owners[0], 1)),))
    device.executable.run([run, run], trace=lambda name, count: done.update({name: done.get(name, 0) + count}))
    assert (done["rotations"], done["ct_pt"], done["rescales"]) == (8, 6, 2)
