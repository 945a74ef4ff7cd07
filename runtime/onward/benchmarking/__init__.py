"""Bench: how fast a model is here, by everything that can run it, each in a process of its own.

`run.py` has `bench`. Nothing is imported here: the process of a competitor measures its own imports.
"""
