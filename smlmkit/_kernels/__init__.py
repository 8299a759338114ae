"""Numba kernels: ndarray in, ndarray out; one file an algorithm."""
