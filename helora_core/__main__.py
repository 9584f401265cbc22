"""``python -m helora_core`` is ``helora``."""

from helora_core.cli.main import main

if __name__ == "__main__":
    main()
