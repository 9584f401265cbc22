"""Both ends of a model in JavaScript and WebAssembly, run by Node, and how hidden states are carried."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helora_core.errors import InvalidInput
from helora_serve.base.cache import converted
from helora_serve.base.convert import MANIFEST, convert
from helora_serve.split.frames import Forward, Hidden, SplitOpen, SplitWelcome, decode_from_client, encode
from helora_serve.split.offer import digest_of

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "src" / "helora_serve" / "web"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    base = tmp_path_factory.mktemp("ends")
    tiny.saved(base / "model")
    convert(base / "model", base / "f32", weights="f32", part="ends")
    convert(base / "model", base / "q8", part="ends")
    return base


def run(folder: Path, **job: Any) -> dict[str, Any]:
    blank: dict[str, Any] = {"states": [], "halves": [], "numbers": [], "frames": [], "draws": []}
    text = json.dumps(blank | {"web": str(WEB), "folder": str(folder)} | job)
    command = ["node", "--no-warnings", str(HERE / "ends.mjs")]
    child = subprocess.run(command, input=text, capture_output=True, text=True, timeout=300, check=False)
    assert child.returncode == 0, child.stderr
    found: dict[str, Any] = json.loads(child.stdout)
    return found


@pytest.mark.parametrize(("weights", "off"), [("f32", 1e-6), ("q8", 0.02)])
def test_rows_and_logits_are_the_models_and_every_row_gives_its_token_away(
    folder: Path, tiny: Any, weights: str, off: float
) -> None:
    model, states = tiny.weights(), np.random.default_rng(5).standard_normal((4, 64)).astype(np.float32)
    found = run(folder / weights, states=states.tolist())
    embedding, head = model["model.embed_tokens.weight"], model["lm_head.weight"]
    assert np.abs(np.array(found["rows"]).reshape(embedding.shape) - embedding).max() <= off * np.abs(embedding).max()
    expected = states @ head.T
    for (logits, greatest), own in zip(found["logits"], expected, strict=True):
        assert np.abs(np.array(logits) - own).max() <= off * np.abs(own).max()
        assert greatest == int(np.argmax(logits))
    assert found["nearest"] == [list(range(tiny.VOCABULARY))] * 2  # in float32, and in what float16 leaves of it


def test_numbers_of_16_bits_are_numpys(folder: Path) -> None:
    rng, every = np.random.default_rng(6), np.arange(1 << 16, dtype=np.uint16)
    numbers = np.concatenate([
        every.view(np.float16)[np.isfinite(every.view(np.float16))].astype(np.float32),
        (rng.standard_normal(2000) * 10.0 ** rng.integers(-9, 6, 2000)).astype(np.float32),
        np.float32([65519.99, 65520, 2**-24, 2**-25, 2**-25 * 1.001, 1 + 2**-11, 1 + 3 * 2**-11, -0.0]),
    ])  # fmt: skip
    found = run(folder / "f32", halves=every.tolist(), numbers=numbers.tolist())
    whole = np.array([float(text) for text in found["whole"]], np.float32)
    assert np.array_equal(whole, every.view(np.float16).astype(np.float32), equal_nan=True)
    with np.errstate(over="ignore"):
        assert found["half"] == numbers.astype(np.float16).view(np.uint16).tolist()


def test_frames_are_those_of_the_server(folder: Path) -> None:
    """What a page makes is read here, and what is made here is read there."""
    asked = [
        SplitOpen(base="ab" * 32, adapter=None, dtype="float16"),
        SplitOpen(base="ab" * 32, adapter="legal", dtype="float32"),
        Forward(request=70000, position=129, tokens=2, last=True),
        Forward(request=1, position=0, tokens=300, last=False),
    ]
    told = [
        SplitWelcome(
            session="cd" * 16, token=b"t" * 32, requested=0, position=0, most_tokens=512, most_positions=2048,
            hidden=64, ttl_s=300.5, mode="split", sees="everything",
        ),
        Hidden(request=1, tokens=1, position=42),
    ]  # fmt: skip
    payloads = [b"", b"", b"rows", b"more", b"", b"states"]
    whole = [encode(each, payload) for each, payload in zip([*asked, *told], payloads, strict=True)]
    headers = [{"type": each.__struct_config__.tag} | _fields(each) for each in [*asked, *told]]
    sent = [{name: value for name, value in header.items() if not isinstance(value, float)} for header in headers]
    sent[4] = {"type": "close"}  # pages do not welcome anybody
    found = run(
        folder / "f32",
        frames=[
            {"header": header, "payload": payload.hex(), "frame": frame.hex()}
            for header, payload, frame in zip(sent, payloads, whole, strict=True)
        ],
    )
    assert [decode_from_client(bytes.fromhex(each)) for each in found["frames"][:4]] == list(
        zip(asked, payloads[:4], strict=True)
    )
    assert found["parts"] == [[header, payload.hex()] for header, payload in zip(headers, payloads, strict=True)]


def _fields(header: Any) -> dict[str, Any]:
    values = {name: getattr(header, name) for name in header.__struct_fields__}
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()}


def test_tokens_are_drawn_from_the_fewest_that_have_the_share(folder: Path) -> None:
    rng, draws, expected = np.random.default_rng(7), [], []
    for _ in range(300):
        logits = (rng.standard_normal(260) * rng.uniform(0.2, 4)).astype(np.float32)
        temperature, share, u = rng.uniform(0.3, 1.5), float(rng.choice([0.3, 0.95, 1.0])), rng.random()
        draws.append({"logits": logits.tolist(), "how": {"temperature": temperature, "share": share}, "u": u})
        odds = np.exp((logits.astype(np.float64) - logits.max()) / temperature)
        order = np.argsort(-odds, kind="stable")
        sums = np.cumsum(odds[order])
        kept = order[: np.searchsorted(sums, share * sums[-1] * (1 - 1e-12)) + 1]
        expected.append(int(kept[np.searchsorted(np.cumsum(odds[kept]), u * odds[kept].sum(), side="right")]))
    found = run(folder / "f32", draws=draws)["drawn"]
    assert found == expected
    assert len(set(found)) > 30


def test_the_ends_hold_nothing_of_the_layers_and_name_their_model(folder: Path, tiny: Any, tmp_path: Path) -> None:
    found = json.loads((folder / "q8" / MANIFEST).read_bytes())
    assert [each["name"] for each in found["tensors"]] == ["embed", "head"]
    assert found["source"] == digest_of(folder / "model")
    assert found["bytes"] <= 2 * tiny.VOCABULARY * 64 * 1.2
    tied = convert(tiny.saved(tmp_path / "tied", tie_word_embeddings=True), tmp_path / "out", part="ends")
    assert [each.name for each in tied.tensors] == ["embed"]
    assert converted(folder / "q8", part="ends") == folder / "q8"
    with pytest.raises(InvalidInput, match="another page"):
        converted(folder / "q8")


@pytest.mark.parametrize(
    ("changes", "what"), [({"model_type": "gemma2"}, "type gemma2"), ({"hidden_size": 66}, "multiple of 32")]
)
def test_ends_that_do_more_than_a_product_are_refused(
    tmp_path: Path, tiny: Any, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(InvalidInput, match=what):
        convert(tiny.saved(tmp_path / "model", **changes), tmp_path / "out", part="ends")
