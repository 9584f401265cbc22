"""PEFT's keys of ``rank_pattern`` and ``alpha_pattern``: regular expressions from a file, matched in bounded time.

PEFT matches ``(.*\\.)?(KEY)$`` with Python's backtracking engine, in which a key of ten characters can take practically
forever. Here Python's own parser reads the expression, so that it means the same as in PEFT, and an automaton follows
all of its alternatives at once (Thompson, CACM 11(6), 1968): each character costs at most one step for each state. Sets
of states are remembered, so that a pattern that is matched against many names soon costs one look-up per character.
Features that no automaton can handle (look-around, back-references and the like) are refused.

A key without choices (plain dotted names, which PEFT itself writes) cannot backtrack more than once per dot; it is left
to ``re``.
"""

from __future__ import annotations

import importlib
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

# The parser has had this name since Python 3.11. It is the only undocumented part of ``re`` used here; if it ever
# returns something that is unknown here, the pattern is refused, not guessed.
_parser: Any = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")

MOST_STATES = 2_000
"""Most states that a key may take; ``a{1000}`` takes a thousand."""

MOST_STEPS = 10_000_000
"""Most steps that may be spent on one adapter, all keys and names together: some 15 s at worst. An adapter of 2000
modules that are each named in both patterns, as EVA does, takes six million."""

LONGEST_NAME = 1_000
"""Most characters of a name that is matched against patterns."""

_REMEMBERED = 10_000
"""Most states, over all sets, that one pattern remembers before it forgets them all and starts again."""

_CATEGORIES: dict[str, Callable[[str], bool]] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_NOT_DIGIT": lambda char: not char.isdecimal(),
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_NOT_SPACE": lambda char: not char.isspace(),
    "CATEGORY_WORD": lambda char: char.isalnum() or char == "_",
    "CATEGORY_NOT_WORD": lambda char: not (char.isalnum() or char == "_"),
}
_ONE_CHARACTER = ("LITERAL", "NOT_LITERAL", "ANY", "IN")
_REFUSED = {
    "ASSERT": "look-around",
    "ASSERT_NOT": "look-around",
    "GROUPREF": "a back-reference",
    "GROUPREF_EXISTS": "a condition on a group",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repetition",
}


class PatternRefused(ValueError):
    """A key is not a regular expression, or needs more than an automaton can do, or takes too long to match."""


class Budget:
    """Steps left for one adapter."""

    def __init__(self, steps: int = MOST_STEPS) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        """Spend ``steps``.

        Raises:
            PatternRefused: Fewer are left.
        """
        self._left -= steps
        if self._left < 0:
            raise PatternRefused("matching its keys takes too long")


@lru_cache(maxsize=4096)  # EVA names every module in both patterns, which is more than re's own cache holds
def key_pattern(key: str) -> KeyPattern:
    """The pattern of a key.

    Raises:
        PatternRefused: The key is not a regular expression that can be matched in bounded time.
    """
    return KeyPattern(key)


class KeyPattern:
    """Matches a key to module names as ``re.match(rf"(.*\\.)?({key})$", name)`` does, but in bounded time.

    Raises:
        PatternRefused: The key is not a regular expression that can be matched in bounded time.
    """

    def __init__(self, key: str) -> None:
        tree, compiled = _parsed(rf"(.*\.)?({key})$")
        self._plain: re.Pattern[str] | None = None
        if not _chooses(tree[1:]) and len(tree) == 3:
            self._plain, self._length = compiled, len(key)
        else:
            self._automaton = _Automaton(tree)

    def matches(self, name: str, budget: Budget) -> bool:
        """Whether the key matches the module of this name; the steps are taken from ``budget``.

        Raises:
            PatternRefused: The name is too long, or the budget is spent.
        """
        if len(name) > LONGEST_NAME:
            raise PatternRefused(f"a module's name has {len(name)} characters, and at most {LONGEST_NAME} are matched")
        if self._plain is not None:
            # One attempt after each dot; comparing 256 characters takes no longer than a step.
            budget.spend(1 + name.count(".") * self._length // 256)
            return self._plain.match(name) is not None
        return self._automaton.matches(name, budget)


def _parsed(expression: str) -> tuple[Any, re.Pattern[str]]:
    """The tree of an expression, and the compiled expression."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sets whose meaning may change one day, and flags in the middle
            tree, compiled = _parser.parse(expression), re.compile(expression)
    except (re.error, RecursionError, OverflowError, ValueError) as error:
        raise PatternRefused(f"it is not a regular expression ({error})") from error
    if tree.state.flags != re.UNICODE:
        raise PatternRefused("it sets flags, which PEFT's newer Pythons refuse")
    return tree, compiled


def _chooses(items: Iterable[Any]) -> bool:
    """Whether a matcher would have to choose anywhere between several ways to go on."""
    for kind, argument in items:
        if str(kind) == "SUBPATTERN":
            if argument[1] or argument[2] or _chooses(argument[3]):
                return True
        elif str(kind) not in (*_ONE_CHARACTER, "AT"):
            return True
    return False


class _Automaton:
    """An automaton for one expression: each of its numbered states leads on by a test of one character, or without.

    Attributes:
        _tests: For each state, what a character must satisfy to go on to ``_next``; None if it needs none.
        _costs: For each state, the steps that its test takes.
        _gates: For each state, what a position must satisfy to pass through it; None if nothing.
        _next: For each state, the states that follow.
    """

    def __init__(self, tree: Any) -> None:
        self._tests: list[Callable[[str], bool] | None] = []
        self._costs: list[int] = []
        self._gates: list[Callable[[str, int], bool] | None] = []
        self._next: list[list[int]] = []
        self._size = 0
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._held = 0
        self._looks_around = False
        items = list(tree)
        # The $ that PEFT puts after the key. (In a key with a stray parenthesis it may end up in a branch.)
        self._to_the_end = len(items) > 1 and [str(part) for part in items[-1]] == ["AT", "AT_END"]
        self._end = self._state()
        try:
            self._start = self._sequence(items[:-1] if self._to_the_end else items, self._end)
        except RecursionError as error:
            raise PatternRefused("its groups are nested too deeply") from error

    def matches(self, name: str, budget: Budget) -> bool:
        """Whether the expression matches from the beginning of ``name``, and up to its end if PEFT's $ demands that."""
        current = self._closure([self._start], name, 0, budget)
        for position, char in enumerate(name):
            if self._end in current and (not self._to_the_end or name[position:] == "\n"):
                return True
            if not current:
                return False
            current = self._advanced(current, char, name, position, budget)
        return self._end in current

    def _advanced(self, current: frozenset[int], char: str, name: str, position: int, budget: Budget) -> frozenset[int]:
        # With gates that look around, the same states and character may lead elsewhere at another position.
        known = None if self._looks_around else self._steps.get((current, char))
        if known is not None:
            budget.spend(1)
            return known
        reached: list[int] = []
        for state in current:
            test = self._tests[state]
            if test is not None and test(char):
                reached += self._next[state]
        budget.spend(sum(self._costs[state] for state in current))
        following = self._closure(reached, name, position + 1, budget)
        if not self._looks_around:
            self._remember(current, char, following)
        return following

    def _remember(self, current: frozenset[int], char: str, following: frozenset[int]) -> None:
        if self._held > _REMEMBERED:
            self._steps.clear()
            self._held = 0
        self._steps[current, char] = following
        self._held += 1 + len(current) + len(following)

    def _closure(self, states: Iterable[int], name: str, position: int, budget: Budget) -> frozenset[int]:
        """All states that can be reached from ``states`` without a further character."""
        waiting, found = list(states), set[int]()
        while waiting:
            state = waiting.pop()
            if state in found:
                continue
            found.add(state)
            gate = self._gates[state]
            if self._tests[state] is None and (gate is None or gate(name, position)):
                waiting += self._next[state]
        budget.spend(1 + sum(len(self._next[state]) for state in found))
        return frozenset(found)

    def _state(
        self,
        test: Callable[[str], bool] | None = None,
        following: Iterable[int] = (),
        *,
        gate: Callable[[str, int], bool] | None = None,
        cost: int = 1,
    ) -> int:
        self._size += cost
        if self._size > MOST_STATES:
            raise PatternRefused(f"it takes more than {MOST_STATES} states: it is too long, or repeats too much")
        self._tests.append(test)
        self._costs.append(cost)
        self._gates.append(gate)
        self._next.append(list(following))
        return len(self._tests) - 1

    def _sequence(self, items: Iterable[Any], following: int) -> int:
        """The first state of the items, one after another, with ``following`` after the last."""
        for kind, argument in reversed(list(items)):
            following = self._item(str(kind), argument, following)
        return following

    def _item(self, kind: str, argument: Any, following: int) -> int:
        if kind in _ONE_CHARACTER:
            return self._state(_test(kind, argument), [following], cost=len(argument) if kind == "IN" else 1)
        if kind == "AT":
            # A gate for the beginning can open only at the first position, from which nothing is remembered.
            self._looks_around |= not str(argument).startswith("AT_BEGINNING")
            return self._state(None, [following], gate=_gate(str(argument)))
        if kind == "SUBPATTERN":
            _, added, removed, inner = argument
            if added or removed:
                raise PatternRefused("it sets flags")
            return self._sequence(inner, following)
        if kind == "BRANCH":
            return self._state(None, [self._sequence(branch, following) for branch in argument[1]])
        if kind in ("MAX_REPEAT", "MIN_REPEAT"):  # greedy or not makes no difference here
            least, most, inner = argument
            return self._repeated(least, most, inner, following)
        raise PatternRefused(f"it has {_REFUSED.get(kind, kind)}, which cannot be matched in bounded time")

    def _repeated(self, least: int, most: Any, inner: Any, following: int) -> int:
        if most is _parser.MAXREPEAT:
            loop = self._state(None, [following])
            self._next[loop].append(self._sequence(inner, loop))
            following = loop
        else:
            for _ in range(int(most) - least):
                following = self._state(None, [self._sequence(inner, following), following])
        for _ in range(least):
            size = len(self._tests)
            following = self._sequence(inner, following)
            if len(self._tests) == size:  # it is empty, so more repetitions change nothing
                break
        return following


def _test(kind: str, argument: Any) -> Callable[[str], bool]:
    """The test that one character must pass."""
    if kind == "LITERAL":
        return chr(argument).__eq__
    if kind == "NOT_LITERAL":
        return chr(argument).__ne__
    if kind == "ANY":
        return "\n".__ne__
    negated = str(argument[0][0]) == "NEGATE"
    tests = [_set_item(str(item), value) for item, value in argument[negated:]]
    return lambda char: any(test(char) for test in tests) is not negated


def _set_item(kind: str, value: Any) -> Callable[[str], bool]:
    if kind == "LITERAL":
        return chr(value).__eq__
    if kind == "RANGE":
        first, last = map(chr, value)
        return lambda char: first <= char <= last
    if kind == "CATEGORY" and str(value) in _CATEGORIES:
        return _CATEGORIES[str(value)]
    raise PatternRefused(f"it has {kind} in a set, which is unknown here")


def _gate(kind: str) -> Callable[[str, int], bool]:
    """The test that a position must pass."""
    if kind in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
        return lambda name, position: position == 0
    if kind == "AT_END":
        return lambda name, position: name[position:] in ("", "\n")
    if kind == "AT_END_STRING":
        return lambda name, position: position == len(name)
    if kind == "AT_BOUNDARY":
        return _at_boundary
    if kind == "AT_NON_BOUNDARY":
        # Before Python 3.14, neither \b nor \B matches in an empty text.
        return lambda name, position: not _at_boundary(name, position) and (bool(name) or sys.version_info >= (3, 14))
    raise PatternRefused(f"it has {kind}, which is unknown here")


def _at_boundary(name: str, position: int) -> bool:
    word = _CATEGORIES["CATEGORY_WORD"]
    before = position > 0 and word(name[position - 1])
    after = position < len(name) and word(name[position])
    return before is not after
