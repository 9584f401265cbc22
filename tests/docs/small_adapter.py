"""A small adapter and activations, for pages that take the reader's own for granted: ``my-lora`` and ``x.npy``.

With an argument, a base model of Llama's shape too, which they fit, in the folder of that name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

RANK, D_IN = 4, 64
D_OUT = {"q_proj": 64, "v_proj": 32}


def main(model: str = "") -> None:
    rng, folder = np.random.default_rng(0), Path("my-lora")
    folder.mkdir()
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": list(D_OUT)}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    halves = {
        f"base_model.model.layers.0.self_attn.{name}.lora_{half}.weight": rng.normal(size=shape).astype(np.float32) / 8
        for name, d_out in D_OUT.items()
        for half, shape in (("A", (RANK, D_IN)), ("B", (d_out, RANK)))
    }
    save_file(halves, folder / "adapter_model.safetensors")
    np.save("x.npy", rng.normal(size=(4, D_IN)))
    if model:
        sys.path.insert(0, str(Path(__file__).parents[2] / "plugins" / "helora-serve" / "tests" / "model"))
        import tiny

        tiny.saved(Path(model))


if __name__ == "__main__":
    main(*sys.argv[1:])
