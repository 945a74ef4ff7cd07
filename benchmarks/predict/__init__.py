"""Predict beside its peers: speed on arrays and on photographs, cold start, memory.

Each comparison is one table, taken in one run: its ways in turns, the order drawn anew each round, medians over rounds,
ratios of the same round.
"""
