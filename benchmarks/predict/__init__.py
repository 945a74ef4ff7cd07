"""Predict and its peers: speed on arrays and on photographs, cold start, memory.

Each comparison is one table from one run. Every round measures all ways once, in a random order. The table has medians
over rounds, and ratios within a round.
"""
