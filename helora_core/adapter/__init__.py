"""LoRA adapters: loading, validation, and the plaintext reference that encrypted results are compared with."""
