"""LoRA adapters: loading, validation, and the plaintext reference that everything encrypted is held against."""
