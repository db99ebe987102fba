"""Kernels: one folder an operation; ``naive.py`` defines it in plain PyTorch, a fast file beside it is optional."""
