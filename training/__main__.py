"""`python -m training`: this floor alone."""

from runtime.console import run
from training.commands import app

run(app, "python -m training")
