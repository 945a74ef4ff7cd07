"""Meter: runs one command, and prints its seconds, its peak memory as the system counts it, and its exit status.

It is a script that imports very little: Linux counts the memory of the parent into the peak of a process, so the parent
has to be small.
"""

import os
import sys
import time


def main() -> None:
    began = time.perf_counter()
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=silent)
    _, status, usage = os.wait4(pid, 0)
    print(time.perf_counter() - began, usage.ru_maxrss, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
