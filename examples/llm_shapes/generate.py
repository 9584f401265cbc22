"""Write a PEFT directory with a synthetic LoRA adapter in the shapes of a real language model.

For benchmarks and trials where no trained adapter is at hand: the weights mean nothing, their sizes are realistic.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from helora_core.adapter.lora import LoRAAdapter, ModuleShape
from helora_core.adapter.peft_write import save_peft
from helora_core.adapter.safetensors_io import FloatDType
from helora_core.adapter.synthetic import LLM_LAYERS, LLM_SHAPES, synthetic_module
from helora_core.errors import HeloraError

BASE_MODELS = {"qwen2.5-1.5b": "Qwen/Qwen2.5-1.5B", "llama-2-7b": "meta-llama/Llama-2-7b-hf"}


def module_shapes(model: str, layers: int, modules: str, rank: int | None) -> dict[str, ModuleShape]:
    """Shapes by full name, for the projections listed in ``modules`` (or ``all``) of the first ``layers`` layers."""
    offered = {pattern.rpartition(".")[2]: (pattern, shape) for pattern, shape in LLM_SHAPES[model]}
    wanted = list(offered) if modules == "all" else [name.strip() for name in modules.split(",")]
    unknown = [name for name in wanted if name not in offered]
    if unknown:
        raise click.BadParameter(
            f"{model} has no {', '.join(map(repr, unknown))}; choose from {', '.join(offered)}, or all.",
            param_hint="--modules",
        )
    if layers > LLM_LAYERS[model]:
        raise click.BadParameter(f"{model} has {LLM_LAYERS[model]} layers.", param_hint="--layers")
    shapes = {}
    for layer in range(layers):
        for pattern, shape in (offered[name] for name in wanted):
            chosen = ModuleShape(d_in=shape.d_in, d_out=shape.d_out, rank=rank or shape.rank)
            shapes[pattern.replace("*", str(layer))] = chosen
    return shapes


@click.command(help=__doc__)
@click.option("--model", type=click.Choice(list(LLM_SHAPES)), required=True, help="Whose shapes to use.")
@click.option("--layers", type=click.IntRange(min=1), default=2, show_default=True, help="How many decoder layers.")
@click.option("--modules", default="q_proj,v_proj", show_default=True, help="Projections, comma-separated, or all.")
@click.option("--rank", type=click.IntRange(min=1), help="LoRA rank. [default: the model's usual one]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same adapter.")
@click.option("--dtype", type=click.Choice(get_args(FloatDType)), default="f32", show_default=True, help="As stored.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Directory to write.")
@click.option("--force", is_flag=True, help="Replace an adapter that is there already.")
def main(
    model: str, layers: int, modules: str, rank: int | None, seed: int, dtype: FloatDType, out: Path, force: bool
) -> None:
    shapes = module_shapes(model, layers, modules, rank)
    if out.exists() and any(out.iterdir()) and not force:
        raise click.ClickException(f"{out} is not empty; give --force to replace an adapter in it.")
    try:
        with click.progressbar(shapes.items(), label="Drawing weights") as items:
            drawn = [synthetic_module(shape, seed=seed, name=name) for name, shape in items]
        adapter = LoRAAdapter.from_modules(drawn, source=f"synthetic {model}")
        save_peft(adapter, out, base_model=BASE_MODELS[model], dtype=dtype, overwrite=force)
    except HeloraError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: {len(drawn)} modules, {dtype}")


if __name__ == "__main__":
    main()
