"""CUDA kernels for the RNS engine, and code that builds and checks them. Not a backend yet: see the README."""
