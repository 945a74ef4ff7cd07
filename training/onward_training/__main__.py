"""`python -m onward_training`: this floor alone."""

from onward.cli.console import run
from onward_training.commands import app

run(app, "python -m onward_training")
