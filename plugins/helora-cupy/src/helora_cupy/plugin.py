"""What the plugin offers to helora: a backend."""

from __future__ import annotations
