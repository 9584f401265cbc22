"""The code behind the backend 'broken'."""

raise OSError("libfake_acme.so.3: cannot open shared object file")
