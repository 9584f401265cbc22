"""tmp"""
def test_x(rows, repo):
    import shutil; from pathlib import Path
    from harness.history_site import build_site
    import time; t=time.time()
    out=Path("/tmp/hsite"); shutil.rmtree(out, ignore_errors=True)
    s=build_site(rows, repo, out); print(s, time.time()-t)
    from harness.rows import append_rows
