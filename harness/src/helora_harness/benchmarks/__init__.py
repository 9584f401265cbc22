"""asv's benchmarks. They import helora_core and nothing else of the harness: asv runs them against old commits."""
