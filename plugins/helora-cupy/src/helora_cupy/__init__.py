"""The engine of helora-rns on CUDA, through CuPy. Nothing of CUDA is imported before the backend is used."""

from __future__ import annotations

from helora_cupy.probing import availability

__all__ = ["availability"]
