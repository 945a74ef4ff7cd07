"""`python -m onward_export`: the commands of this floor alone."""

from onward.cli.console import run
from onward_export.commands import app

run(app, "python -m onward_export")
