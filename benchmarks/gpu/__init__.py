"""`make gpu`: everything that needs a graphics card, in one run of under ten minutes.

Each section runs in a process of its own with a time limit, and its rows are kept as they come: a section that fails,
crashes or takes too long is a line of the results, and the others run. Where there is no card the CPU takes its place,
at tiny sizes: that tests the plumbing.
"""
