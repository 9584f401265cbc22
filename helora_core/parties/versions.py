"""Which of a module's plans a request takes: one for few tokens, or one for many."""

from __future__ import annotations

from collections.abc import Sequence

from helora_core.parties.request import AskedModule


def chosen(modules: Sequence[Sequence[AskedModule]], tokens: int) -> list[AskedModule]:
    """Each module by the plan that its tokens cost least with, where all take the same ciphertexts.

    If the modules take one input by several of their plans, those are taken that cost least together. If they do by
    none, each is taken by its own cheapest, and ``require_one_input`` says what is wrong.

    Args:
        modules: Each with its plans, one or more.
        tokens: Of the request.
    """
    if all(len(versions) == 1 for versions in modules):
        return [versions[0] for versions in modules]
    alive = [versions for versions in modules if not all(each.plan.is_zero for each in versions)]
    inputs = [{_input(each) for each in versions} for versions in alive]
    common = set.intersection(*inputs) if inputs else set()
    options = [_cheapest(modules, tokens, each) for each in sorted(common)] or [_cheapest(modules, tokens, None)]
    return min(options, key=lambda option: sum(_price(each, tokens)[0] for each in option))


def _cheapest(
    modules: Sequence[Sequence[AskedModule]], tokens: int, wanted: tuple[str, int] | None
) -> list[AskedModule]:
    found = []
    for versions in modules:
        fitting = [each for each in versions if wanted is None or _input(each) == wanted]
        found.append(min(fitting or versions, key=lambda each: _price(each, tokens)))
    return found


def _input(each: AskedModule) -> tuple[str, int]:
    """What has to be equal for two modules to take one input."""
    return each.plan.input_signature, len(each.plan.rounds)


def _price(each: AskedModule, tokens: int) -> tuple[float, int]:
    runs = each.plan.runs(tokens)
    return runs * each.plan.run_cost, runs
