"""`onward doctor`."""

from __future__ import annotations

from onward.cli.console import print_json, print_table
from onward.cli.options import AsJson

__all__ = ["doctor"]


def doctor(as_json: AsJson = False) -> None:
    """Say what this machine can run, and why not the rest."""
    from onward.host.doctor import examine

    machine = examine()
    if as_json:
        print_json(machine.to_json())
        return
    print(f"{machine.system}, Python {machine.python}, {machine.num_cores} cores for this process")
    print_table(
        ["", "what", ""],
        [["yes" if item.works else "no", item.what, item.detail] for item in machine.findings],
    )
