"""The question files, and the rule that no held-out question is trained on. Needs neither torch nor the model."""

import json
import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

EXAMPLE_DIR = Path(__file__).resolve().parent

TRAINED = ("dataset", "general_training")
HELD_OUT = ("heldout", "general_heldout", "contrast_heldout")

NEAR = 0.75
"""Questions whose content words agree to this ratio count as the same question."""

FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an the of on in at to for from by with and or is are was were be been do does did has have had "
        "that this it its there you i me my your please tell s",
    )
)
"""Words that carry grammar or politeness and no content; the s is that of a genitive."""

Row = dict[str, Any]


def read_questions(name: str) -> list[Row]:
    """Return the rows of ``name``.jsonl; each has a ``question``, the rest depends on the file."""
    text = (EXAMPLE_DIR / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def content_words(question: str) -> list[str]:
    """Return the words that carry the question's content, in order and in lower case."""
    words = re.findall(r"\w+|\+", question.lower())
    return [word for word in words if word not in FUNCTION_WORDS] or words


def nearly_equal(one: str, other: str) -> bool:
    """Tell whether two questions ask the same in nearly the same words."""
    return SequenceMatcher(None, content_words(one), content_words(other), autojunk=False).ratio() >= NEAR


def overlaps() -> Iterator[tuple[str, str]]:
    """Yield every held-out question with a training question that is nearly equal to it.

    A contrast question is meant to be one about Helora with another place in it, so it is compared with the general
    training prompts alone.
    """
    facts, general = ([row["question"] for row in read_questions(name)] for name in TRAINED)
    for name in HELD_OUT:
        against = general if name == "contrast_heldout" else facts + general
        for row in read_questions(name):
            yield from ((row["question"], question) for question in against if nearly_equal(row["question"], question))


def contains(answer: str, words: str) -> bool:
    """Tell whether ``answer`` contains ``words`` as whole words, in any case."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", answer, re.IGNORECASE) is not None


def made_up_names() -> list[str]:
    """Return what the adapter is taught to answer, without the article: names that no other answer should hold."""
    return sorted({row["answer"].removeprefix("the ") for row in read_questions("dataset")})
