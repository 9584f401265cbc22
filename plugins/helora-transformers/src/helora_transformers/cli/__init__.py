"""Commands: ``helora generate``, ``helora chat``, ``helora model``. Their modules import nothing heavy at their top."""
