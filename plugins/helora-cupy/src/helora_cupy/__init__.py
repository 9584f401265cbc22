"""CUDA kernels for the RNS engine, and what builds and checks them. Not a backend yet: see the README."""
