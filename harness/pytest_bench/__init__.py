"""The cells for users of pytest-benchmark: ``pytest harness/pytest_bench``. With ``--benchmark-disable``: tests."""
