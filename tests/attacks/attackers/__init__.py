"""What an honest but curious holder of the secret key can compute from what it sent and what came back.

Each attack gives a statistic, and succeeds if that is above a threshold (``attackers.cases``). It is tried twice: on a
run whose protection is off, where it must succeed, and on one as helora does it by default, where it must fail.
"""
