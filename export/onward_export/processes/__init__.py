"""Processes: fresh processes, which have run nothing of the user's and nothing of the exporter's.

fresh_process is the side of the exporter; fork_server is the program of a process that has imported libraries, which
takes seconds for PyTorch, and forks. The room does not know what its processes are for.
"""

from onward_export.processes.fresh_process import TORCH, FreshProcess, start_server

__all__ = ["TORCH", "FreshProcess", "start_server"]
