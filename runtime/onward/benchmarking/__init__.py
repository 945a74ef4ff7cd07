"""Benchmarking: how fast a model is on this machine, on every available backend, each in a process of its own.

`bench.py` has `bench`. Nothing is imported here: a worker process measures its own imports.
"""
