"""What the plugin offers to helora: commands."""

from __future__ import annotations
