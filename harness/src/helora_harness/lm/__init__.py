"""``helora bench lm``: a language model whose LoRA is encrypted, beside the same model with PEFT's LoRA in the clear.

Nothing here imports torch, transformers or PEFT unless it runs a model: those modules are ``opened``, ``generating``,
``identity`` and ``over_networks``.
"""
