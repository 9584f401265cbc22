"""The commands of ``helora bench``."""
