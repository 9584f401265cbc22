"""The rank and scaling that a PEFT configuration declares for modules that PEFT may have known by other names."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path

from helora_core.adapter.containers import CONFIG_FILE
from helora_core.adapter.names import natural_key
from helora_core.adapter.peft_config import PEFTConfig
from helora_core.adapter.wrappers import KEY_PREFIX, ModuleName
from helora_core.errors import AdapterFormatError

# ``^`` as the beginning of the name: neither escaped nor the first character of a set, as in [^.]
_ANCHORED = re.compile(r"(?<![\\\[])\^|\\A")


def declared_scaling(path: Path, config: PEFTConfig, name: ModuleName) -> float:
    """α/r, or α/√r, of a module.

    Raises:
        AdapterFormatError: The scaling depends on which of its possible names PEFT knew the module by.
    """
    if name.outer is None:
        _refuse_anchors(path, config, name)
    declared = config.rank_of(name.shown), config.scaling_of(name.shown)
    for other in name.others:
        if (config.rank_of(other), config.scaling_of(other)) != declared:
            raise AdapterFormatError(
                f"{path}: PEFT may know module {name.shown!r} as {other!r}, and rank_pattern or alpha_pattern in "
                f"{CONFIG_FILE} declare a different rank or α for the two names.",
                hint="Look at the layer's scaling in PEFT, with the model as it was trained; then save the adapter "
                "from the unwrapped model, with patterns that give that scaling by the names it is saved under.",
            )
    return declared[1]


def _refuse_anchors(path: Path, config: PEFTConfig, name: ModuleName) -> None:
    for field, patterns in (("rank_pattern", config.rank_pattern), ("alpha_pattern", config.alpha_pattern)):
        anchored = next((key for key in patterns or {} if _ANCHORED.search(key)), None)
        if anchored is not None:
            raise AdapterFormatError(
                f"{path}: the keys of module {name.shown!r} have no prefix {KEY_PREFIX!r}, so its whole name, which "
                f"the pattern {anchored!r} of {field} has to match, is not known.",
                hint="Save the adapter with PEFT's save_pretrained, which writes the prefix. Leaving out the ^ is "
                "right only if the pattern then still means the same modules as in training.",
            )


def check_ranks(path: Path, config: PEFTConfig, ranks: Mapping[str, int]) -> None:
    """Check the ranks of the modules' matrices against the declared ranks, by names that PEFT would use.

    Raises:
        AdapterFormatError: They differ; the hint says what the configuration must have, as far as that is known.
    """
    wrong = {name: ranks[name] for name in sorted(ranks, key=natural_key) if ranks[name] != config.rank_of(name)}
    if not wrong:
        return
    name, rank = next(iter(wrong.items()))
    others = f" (and {len(wrong) - 1} more like it)" if len(wrong) > 1 else ""
    raise AdapterFormatError(
        f"{path}: module {name!r} has rank {rank}, but {CONFIG_FILE} declares rank {config.rank_of(name)}{others}.",
        hint="Δ is scaled by α/r, which must stay what it was when the matrices were made: correcting the rank alone "
        f"changes it. {_way_out(config, wrong, ranks)}",
    )


def _way_out(config: PEFTConfig, wrong: Mapping[str, int], ranks: Mapping[str, int]) -> str:
    merged = config.lora_alpha == config.r and not config.rank_pattern and not config.alpha_pattern
    if not merged:
        return "Take r, lora_alpha, rank_pattern and alpha_pattern all from the configuration of the training run."
    # add_weighted_adapter sets α = r and drops the patterns, so that every module was merged with this scaling
    found = _by_ending(wrong, ranks)
    rank_pattern = json.dumps(found)
    alpha_pattern = json.dumps({key: _alpha(config, rank) for key, rank in found.items()})
    return (
        "If PEFT's add_weighted_adapter made it, which forgets rank_pattern, set "
        f'"rank_pattern": {rank_pattern} and "alpha_pattern": {alpha_pattern} together; else take both patterns from '
        "the configuration of the training run."
    )


def _alpha(config: PEFTConfig, rank: int) -> float:
    """The α that gives a module of this rank the scaling that is declared for all."""
    if config.use_rslora:
        return math.sqrt(config.lora_alpha * config.lora_alpha * rank / config.r)
    return rank  # α = r, so α/r is 1


def _by_ending(wrong: Mapping[str, int], ranks: Mapping[str, int]) -> dict[str, int]:
    """Patterns for the ranks of modules: the last part of their names, where that matches no other modules."""
    found = {}
    for name, rank in wrong.items():
        ending = name.rpartition(".")[2]
        alike = {each: other for each, other in ranks.items() if each.rpartition(".")[2] == ending}
        if set(alike.values()) == {rank} and alike.keys() <= wrong.keys():
            found[re.escape(ending)] = rank
        else:
            found[f"^{re.escape(name)}"] = rank
    return found
