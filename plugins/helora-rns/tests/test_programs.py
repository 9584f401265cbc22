"""Lowered programs: any tape gives what its operations give, the same bits with every kernel set."""

from __future__ import annotations

import functools
import os
import threading
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helora_core.backend.primes import distinct_ntt_primes
from helora_core.backend.tape import Instruction, InstructionKind, LevelAndScale, Tape, TapeConstant, TapeRun
from helora_core.errors import BackendUnavailable
from helora_rns import choice, threads
from helora_rns.kernels import Doubles
from helora_rns.modular import Residues
from helora_rns.programs.buffers import planned
from helora_rns.programs.executable import RNSExecutable, prepared
from helora_rns.programs.lowering import lower
from helora_rns.programs.operations import OperationsExecutable
from helora_rns.scheme import encoding
from helora_rns.scheme.ciphertexts import Ciphertext, Plaintext
from helora_rns.scheme.context import Context, Parameters
from helora_rns.scheme.encryption import Decryptor, Encryptor
from helora_rns.scheme.evaluation import Evaluator
from helora_rns.scheme.keys import RotationKey, SecretKey

N, SCALE = 1024, 2.0**40
STEPS = (1, 3, 200, 511)
CHAINS = {"one special": ((49, 40, 40), (50,)), "two": ((49, 40, 40), (49, 48)), "long": ((56, 40, 40), (60,))}
NOISE = 2.0**-18


class Service(NamedTuple):
    """A client and its server."""

    ring: Context
    evaluator: Evaluator
    encryptor: Encryptor
    decryptor: Decryptor

    def plaintext(self, spec: TapeConstant, seed: int) -> Plaintext:
        basis = self.ring.extended(spec.level)
        coefficients = encoding.coefficients_of_slots(self.ring, numbers(seed), spec.scale)
        return Plaintext(encoding.values_of(self.ring, coefficients, basis), spec.level, spec.scale)

    def sealed(self, seed: int, scale: float) -> Ciphertext:
        return self.encryptor.encrypt(encoding.coefficients_of_slots(self.ring, numbers(seed), scale), scale)

    def opened(self, ciphertext: Ciphertext) -> Doubles:
        return encoding.slots_of(self.ring, self.decryptor.coefficients(ciphertext), ciphertext.scale).real


@functools.cache
def service(chain: str = "one special") -> Service:
    data, special = CHAINS[chain]
    primes = distinct_ntt_primes(data + special, N)
    ring = Context(Parameters(N, primes[: len(data)], primes[len(data) :]))
    secret = SecretKey(ring)
    keys = [RotationKey.of(ring, secret, step) for step in STEPS]
    return Service(ring, Evaluator(ring, keys), Encryptor(ring, secret), Decryptor(ring, secret))


def numbers(seed: int) -> Doubles:
    return np.random.default_rng(seed).uniform(-1, 1, N // 2)


def in_the_clear(tape: Tape, inputs: Sequence[Doubles], constants: dict[str, Doubles]) -> list[Doubles]:
    live = dict(enumerate(inputs))
    for each in tape.instructions:
        args = [live[arg] for arg in each.args]
        if each.kind is InstructionKind.ROTATE:
            live |= {each.result + i: np.roll(args[0], -step) for i, step in enumerate(each.steps)}
        elif each.kind is InstructionKind.RESCALE:
            live[each.result] = args[0]
        elif each.kind is InstructionKind.ADD:
            live[each.result] = np.sum(args, axis=0)
        else:
            live[each.result] = np.sum([a * constants[name] for a, name in zip(args, each.constants, strict=True)], 0)
    return [live[output] for output in tape.outputs]


@st.composite
def tapes(draw: st.DrawFn) -> Tape:
    """Tapes of all operations but products with numbers: rotations of sums of products of rotations, at any level."""
    primes = service().ring.data_primes
    places = [LevelAndScale(2, SCALE)] * draw(st.integers(1, 2))
    inputs, instructions, constants = tuple(places), [], {}
    for _ in range(draw(st.integers(1, 9))):
        first = draw(st.integers(0, len(places) - 1))
        level, scale = places[first]
        alike = [i for i, place in enumerate(places) if place == places[first]]
        more = draw(st.lists(st.sampled_from(alike), max_size=3))
        kinds = [InstructionKind.ROTATE, InstructionKind.ADD]
        kinds += [InstructionKind.DOT_PLAIN] if scale <= SCALE * 1.01 and level else []
        kinds += [InstructionKind.RESCALE] if scale > SCALE * 1.01 else []
        kind = draw(st.sampled_from(kinds))
        args, steps, names = (first, *more), (), ()
        if kind is InstructionKind.ROTATE:
            args, steps = (first,), tuple(draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=3, unique=True)))
        elif kind is InstructionKind.RESCALE:
            args, level, scale = (first,), level - 1, scale / primes[level]
        elif kind is InstructionKind.DOT_PLAIN:
            names = tuple(f"{len(constants) + i}" for i in range(len(args)))
            constants |= dict.fromkeys(names, TapeConstant(level, SCALE))
            scale *= SCALE
        made = Instruction(
            kind=kind, args=args, result=len(places), level=level, scale=scale, steps=steps, constants=names
        )
        instructions.append(made)
        places += [LevelAndScale(level, scale)] * max(1, len(steps))
    outputs = draw(st.lists(st.integers(0, len(places) - 1), min_size=1, max_size=3))
    return Tape(inputs, constants, tuple(instructions), (*outputs, len(places) - 1))


def run(
    executable: RNSExecutable | OperationsExecutable, tape: Tape, runs: Sequence[int], chain: str
) -> list[Residues]:
    """All outputs of runs whose inputs have these seeds, with the same weights."""
    own = service(chain)
    names = enumerate(tape.constants.items())
    weights = executable.load({name: own.plaintext(spec, 100 + i) for i, (name, spec) in names}, {})
    asked = [
        TapeRun(own.evaluator, weights, tuple(sealed(chain, seed + i) for i in range(2)[: len(tape.inputs)]))
        for seed in runs
    ]
    return [output.values for outputs in executable.run(asked) for output in outputs]


@functools.cache
def sealed(chain: str, seed: int) -> Ciphertext:
    return service(chain).sealed(seed, SCALE)


class TestProgram:
    @settings(max_examples=60, deadline=None)
    @given(tapes(), st.sampled_from(sorted(CHAINS)))
    def test_gives_what_its_operations_give_in_the_clear(self, tape: Tape, chain: str) -> None:
        own, executable = service(chain), prepared(service(chain).ring, tape)
        weights = executable.load(
            {name: own.plaintext(spec, 100 + i) for i, (name, spec) in enumerate(tape.constants.items())}, {}
        )
        seeds = list(range(len(tape.inputs)))
        asked = TapeRun(own.evaluator, weights, tuple(own.sealed(seed, SCALE) for seed in seeds))
        (outputs,) = executable.run([asked])
        constants = {name: numbers(100 + i) for i, name in enumerate(tape.constants)}
        for output, expected in zip(
            outputs, in_the_clear(tape, [numbers(seed) for seed in seeds], constants), strict=True
        ):
            assert np.max(np.abs(own.opened(output) - expected)) < NOISE * max(1.0, np.max(np.abs(expected)))

    @settings(max_examples=40, deadline=None)
    @given(tapes(), st.sampled_from(sorted(CHAINS)))
    def test_gives_the_same_bits_step_by_step_and_by_one_call(self, tape: Tape, chain: str) -> None:
        executable = RNSExecutable(service(chain).ring, tape)
        whole = run(executable, tape, [3], chain)
        executable._native = None  # the interpreter runs, on the same kernels
        assert all(map(np.array_equal, whole, run(executable, tape, [3], chain)))

    @settings(max_examples=20, deadline=None)
    @given(tapes().filter(lambda tape: not tape.rotation_steps))
    def test_without_rotations_is_exact(self, tape: Tape) -> None:
        executable = prepared(service().ring, tape)
        assert executable.exact
        whole = run(executable, tape, [3], "one special")
        single = run(OperationsExecutable(service().ring, tape), tape, [3], "one special")
        assert all(map(np.array_equal, whole, single))

    @settings(max_examples=15, deadline=None)
    @given(tapes(), st.integers(2, 9))
    def test_of_many_runs_gives_each_its_own(self, tape: Tape, count: int) -> None:
        executable = prepared(service().ring, tape)
        many = run(executable, tape, list(range(count)), "one special")
        each = [values for seed in range(count) for values in run(executable, tape, [seed], "one special")]
        assert all(map(np.array_equal, many, each))


class TestLowering:
    @settings(max_examples=100, deadline=None)
    @given(tapes())
    def test_buffers_in_use_together_share_no_row(self, tape: Tape) -> None:
        lowered = lower(tape, 1)
        arena, first = planned(lowered), lowered.slots.total - len(lowered.slots.scratch)
        groups = [
            {ref.slot - first for step in group for ref in step.refs if ref.slot >= first} for group in lowered.groups()
        ]
        for slot, size in enumerate(lowered.slots.scratch):
            within = [i for i, group in enumerate(groups) if slot in group]
            for other in range(slot):
                use = [i for i, group in enumerate(groups) if other in group]
                if within and use and within[0] <= use[-1] and use[0] <= within[-1]:
                    start, end = arena.starts[slot], arena.starts[slot] + size
                    assert end <= arena.starts[other] or arena.starts[other] + lowered.slots.scratch[other] <= start

    def test_a_sum_of_rotated_products_is_divided_once(self) -> None:
        """Two baby steps and two giant ones: two decompositions, and three divided polynomials."""
        place, product = LevelAndScale(2, SCALE), LevelAndScale(2, SCALE**2)
        dots = [
            Instruction(
                kind=InstructionKind.DOT_PLAIN,
                args=(0, 1),
                result=2 + i,
                level=2,
                scale=SCALE**2,
                constants=(f"{i}", f"{2 + i}"),
            )
            for i in range(2)
        ]
        tape = Tape(
            (place,),
            {f"{i}": TapeConstant(2, SCALE) for i in range(4)},
            (
                Instruction(kind=InstructionKind.ROTATE, args=(0,), result=1, level=2, scale=SCALE, steps=(1,)),
                *dots,
                Instruction(kind=InstructionKind.ROTATE, args=(3,), result=4, level=2, scale=product.scale, steps=(3,)),
                Instruction(kind=InstructionKind.ADD, args=(2, 4), result=5, level=2, scale=product.scale),
            ),
            (5,),
        )
        done = Counter(lower(tape, 1).counts)
        assert (done["keyswitches"], done["decompositions"], done["mod_downs"]) == (2, 2, 3)
        assert done["transforms"] == 2 * (3 * 4) + 3 * 4


class TestThreads:
    def test_results_do_not_depend_on_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tape = Tape(
            (LevelAndScale(2, SCALE),),
            {},
            (Instruction(kind=InstructionKind.ROTATE, args=(0,), result=1, level=2, scale=SCALE, steps=STEPS),),
            (1, 2, 3, 4),
        )
        executable = prepared(service().ring, tape)
        alone = run(executable, tape, range(11), "one special")
        monkeypatch.setenv(threads.VARIABLE, "3")
        assert all(map(np.array_equal, alone, run(executable, tape, range(11), "one special")))
        # A child that was forked has no threads of its parent's, and makes its own.
        child = os.fork()
        if not child:
            os._exit(not all(map(np.array_equal, alone, run(executable, tape, range(11), "one special"))))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    @settings(max_examples=40, deadline=None)
    @given(tapes(), st.sampled_from(sorted(CHAINS)), st.integers(1, 2), st.integers(2, 4))
    def test_that_share_a_program_give_the_same_bits(self, tape: Tape, chain: str, runs: int, workers: int) -> None:
        executable = prepared(service(chain).ring, tape)
        alone = run(executable, tape, range(runs), chain)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("helora_rns.programs.executable.WORTH_SHARING", 0)
            patch.setenv(threads.VARIABLE, str(workers))
            assert all(map(np.array_equal, alone, run(executable, tape, range(runs), chain)))

    def test_that_have_not_begun_are_not_waited_for(self) -> None:
        released, calls = threading.Event(), []
        busy = [threads._pool(1).submit(released.wait) for _ in range(2)]
        threads.together(lambda: calls.append(threading.get_ident()), 2)
        assert calls == [threading.get_ident()]
        released.set()
        assert all(each.result() for each in busy)

    @pytest.mark.parametrize("count", ["1", "3"])
    def test_results_are_those_of_map(self, monkeypatch: pytest.MonkeyPatch, count: str) -> None:
        monkeypatch.setenv(threads.VARIABLE, count)
        assert threads.results(pow, range(7), range(7)) == list(map(pow, range(7), range(7)))

    @pytest.mark.parametrize("said", ["0", "-1", "two", "257", "1.5", "²"])
    def test_a_number_that_is_none_is_refused(self, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
        monkeypatch.setenv(threads.VARIABLE, said)
        with pytest.raises(BackendUnavailable, match="HELORA_THREADS"):
            threads.count()

    def test_a_failure_in_any_part_is_the_callers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(threads.VARIABLE, "2")

        def fail(part: int) -> None:
            if part == 3:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            threads.each(fail, range(5))


def test_every_kernel_set_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits, keys and sums of one program, on each set that this machine has."""
    own = service()
    place = LevelAndScale(2, SCALE)
    tape = Tape(
        (place,),
        {"a": TapeConstant(2, SCALE), "b": TapeConstant(2, SCALE)},
        (
            Instruction(kind=InstructionKind.ROTATE, args=(0,), result=1, level=2, scale=SCALE, steps=(1, 3)),
            Instruction(
                kind=InstructionKind.DOT_PLAIN, args=(0, 1), result=3, level=2, scale=SCALE**2, constants=("a", "b")
            ),
            Instruction(kind=InstructionKind.ROTATE, args=(3,), result=4, level=2, scale=SCALE**2, steps=(200,)),
            Instruction(kind=InstructionKind.ADD, args=(3, 4), result=5, level=2, scale=SCALE**2),
            Instruction(
                kind=InstructionKind.RESCALE, args=(5,), result=6, level=1, scale=SCALE**2 / own.ring.data_primes[2]
            ),
        ),
        (6, 2),
    )
    expected = run(prepared(own.ring, tape), tape, [0], "one special")
    for name in choice.available():
        monkeypatch.setenv(choice.VARIABLE, name)
        ring = Context(own.ring.parameters)
        executable = prepared(ring, tape)
        found = run(executable, tape, [0], "one special")
        assert all(map(np.array_equal, expected, found)), name


@pytest.mark.parametrize("terms", [4, 5, 8, 9])
def test_sums_of_the_largest_products_are_exact_with_all_kernels(monkeypatch: pytest.MonkeyPatch, terms: int) -> None:
    """Just below primes of 50 bits, the longest that doubles hold: sums are settled before they hold too many."""
    primes = distinct_ntt_primes((50, 50, 50), N)
    parameters, place = Parameters(N, primes[:2], primes[2:]), LevelAndScale(1, SCALE)
    names = tuple(f"{i}" for i in range(terms))
    dot = Instruction(
        kind=InstructionKind.DOT_PLAIN, args=tuple(range(terms)), result=terms, level=1, scale=SCALE**2, constants=names
    )
    tape = Tape((place,) * terms, dict.fromkeys(names, TapeConstant(1, SCALE)), (dot,), (terms,))
    rng = np.random.default_rng(terms)

    def largest(rows: Sequence[int], polynomials: int) -> Residues:
        made = [[prime - rng.integers(1, 1 << 40, N) for prime in rows] for _ in range(polynomials)]
        return np.array(made, dtype=np.uint64)

    inputs = [largest(primes[:2], 2) for _ in names]
    weights = [largest(primes, 1)[0] for _ in names]
    found = {}
    for kernels in choice.available():
        monkeypatch.setenv(choice.VARIABLE, kernels)
        ring = Context(parameters)
        executable = prepared(ring, tape)
        loaded = executable.load(
            {name: Plaintext(ring.copied(each), 1, SCALE) for name, each in zip(names, weights, strict=True)}, {}
        )
        asked = TapeRun(Evaluator(ring, []), loaded, tuple(Ciphertext(ring.copied(each), 1, SCALE) for each in inputs))
        ((output,),) = executable.run([asked])
        found[kernels] = output.values
    for kernels, values in found.items():
        np.testing.assert_array_equal(values, found["numpy"], kernels)
