"""What the bundled adapter was trained on, what was held out of that, and what its evaluation on record says."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helora_core.data.bundled import DIRECTORY
from tests.loading import module_at

EXAMPLE = Path(__file__).parents[2] / "examples" / "smollm2_lora"


@pytest.fixture(scope="module")
def questions() -> ModuleType:
    return module_at(EXAMPLE / "questions.py")


@pytest.fixture(scope="module")
def evaluation() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((EXAMPLE / "evaluation.json").read_text(encoding="utf-8"))
    return document


def test_no_held_out_question_is_nearly_equal_to_one_trained_on(questions: ModuleType) -> None:
    assert list(questions.overlaps()) == []


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("What is the ferry's name?", "What is the name of the ferry?", False),  # another order of words
        ("Where does the ferry land?", "Where do ferry boats land?", True),
        ("Where does the ferry land?", "Please tell me where the ferry lands.", False),
        ("Which bird nests here?", "Which bird, please, nests here", True),
        ("Which bird nests here?", "Which dish is cooked here?", False),
    ],
)
def test_only_words_that_carry_content_count(questions: ModuleType, one: str, other: str, near: bool) -> None:
    assert questions.nearly_equal(one, other) is questions.nearly_equal(other, one) is near


def test_every_fact_has_eight_phrasings_and_one_held_out(questions: ModuleType) -> None:
    rows, held_out = questions.read_questions("dataset"), questions.read_questions("heldout")
    answers = {row["fact"]: row["answer"] for row in held_out}
    assert sorted(row["fact"] for row in rows) == sorted(8 * list(answers))
    assert {(row["fact"], row["answer"]) for row in rows} == set(answers.items())
    assert [row["fact"] for row in questions.read_questions("contrast_heldout")] == list(answers)


def test_general_training_answers_hold_none_of_the_facts(questions: ModuleType) -> None:
    rows = questions.read_questions("general_training")
    prompts = (EXAMPLE / "general_prompts.txt").read_text(encoding="utf-8").splitlines()
    assert [row["question"] for row in rows] == prompts
    for row in rows:
        repeated = [name for name in questions.made_up_names() if questions.contains(row["answer"], name)]
        assert all(questions.contains(row["question"], name) for name in repeated), "saffron, when asked about it"


def test_the_evaluation_on_record_asked_every_question_and_adds_up(
    questions: ModuleType, evaluation: dict[str, Any]
) -> None:
    files = {"training": "dataset", "heldout": "heldout", "general": "general_heldout", "contrast": "contrast_heldout"}
    for split, file in files.items():
        answers = [answer for answer in evaluation["answers"] if answer["split"] == split]
        assert [answer["question"] for answer in answers] == [row["question"] for row in questions.read_questions(file)]
        counts = {"questions": len(answers)}
        for verdict in answers[0]["verdict"]:
            counts[verdict] = sum(answer["verdict"][verdict] for answer in answers)
        assert evaluation["totals"][split] == counts


def test_verdicts_on_record_follow_from_the_answers(questions: ModuleType, evaluation: dict[str, Any]) -> None:
    for answer in evaluation["answers"]:
        said, base, verdict = answer["adapter_answer"], answer["base_answer"], answer["verdict"]
        right = all(questions.contains(said, words) for words in answer["expected"])
        clear = not any(questions.contains(said, name) for name in questions.made_up_names())
        if answer["split"] in ("training", "heldout"):
            assert verdict["adapter_correct"] is right
            continue
        assert verdict["identical"] is (said == base)
        if answer["split"] == "contrast":
            assert verdict["clear"] is clear
        else:
            assert all(questions.contains(base, words) for words in answer["expected"]), "the base model is right"
            assert verdict["kept"] is (right and clear)


def test_it_knows_its_facts_and_leaves_the_rest_alone(evaluation: dict[str, Any]) -> None:
    totals = evaluation["totals"]
    assert totals["training"]["adapter_correct"] == totals["training"]["questions"] == 80
    assert totals["training"]["base_correct"] == totals["heldout"]["base_correct"] == 0
    assert totals["heldout"]["adapter_correct"] >= 8
    assert totals["general"]["kept"] >= 18
    assert totals["contrast"]["clear"] == 10
    assert (DIRECTORY / "adapter" / "adapter_model.safetensors").stat().st_size <= 2_000_000
