"""Names of modules are PEFT's, whatever training tools have wrapped around the modules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helora_core.adapter.wrappers import KEY_PREFIX, module_name

UNMISTAKABLE = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_module"]
PARTS = st.sampled_from(
    ["model", "language_model", "text_model", "layers", "0", "17", "self_attn", "q_proj", "lm_head"]
)
NAMES = st.lists(PARTS, min_size=1, max_size=6).map(".".join)


@given(name=NAMES, data=st.data())
def test_wrappers_change_no_name_wherever_they_stand(name: str, data: st.DataObject) -> None:
    parts = [*KEY_PREFIX.rstrip(".").split("."), *name.split(".")]
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(parts) - 1))
        parts.insert(place, data.draw(st.sampled_from(UNMISTAKABLE)))
    for _ in range(data.draw(st.integers(0, 2))):
        parts.insert(0, "module")
    found = module_name(".".join(parts))
    assert (found.shown, found.outer) == (name, "")


@given(name=NAMES)
def test_names_without_wrappers_have_no_others(name: str) -> None:
    found = module_name(KEY_PREFIX + name)
    assert (found.shown, found.others, found.outer) == (name, (), "")


def test_names_of_any_length_take_linear_time_and_memory() -> None:
    for key in (KEY_PREFIX * 50_000 + "q", "_orig_mod." * 50_000 + "q", "base_model." * 50_000 + "model.q"):
        assert len(module_name(key).others) <= 8


@pytest.mark.parametrize(
    ("key", "shown", "others", "outer"),
    [
        ("_orig_mod.base_model.model.model.q", "model.q", (), ""),
        ("base_model._orig_mod.model.model.q", "model.q", (), ""),
        ("base_model.module.model.model.q", "model.q", (), ""),
        ("llm.base_model.model.model.q", "model.q", (), "llm"),
        ("module.policy._orig_mod.llm.base_model.model.q", "q", (), "policy.llm"),
        # compiled before PEFT or after it: the key does not tell
        ("base_model.model._orig_mod.model.q", "model.q", ("_orig_mod.model.q",), ""),
        ("base_model.model.model.0._orig_mod.q", "model.0.q", ("model.0._orig_mod.q",), ""),
        ("base_model.model.module.q", "q", ("module.q",), ""),
        # FSDP and checkpointing come after PEFT
        ("base_model.model._fsdp_wrapped_module.model.0._checkpoint_wrapped_module.q", "model.0.q", (), ""),
        # PEFT's model in PEFT's model
        ("base_model.model.base_model.model.model.q", "base_model.model.model.q", ("model.q",), ""),
        # an attribute that is only called so
        ("base_model.model.model.module.q", "model.module.q", (), ""),
        ("base_model.model", "base_model.model", None, None),
        ("module", "module", None, None),
        ("_orig_mod.model.q", "model.q", None, None),
        ("language_model.model.q", "language_model.model.q", None, None),
    ],
)
def test_names(key: str, shown: str, others: tuple[str, ...] | None, outer: str | None) -> None:
    found = module_name(key)
    assert (found.shown, found.outer) == (shown, outer)
    if others is not None:
        assert found.others == others
    else:  # what stood in front is not known
        assert f"model.{shown}" in found.others
