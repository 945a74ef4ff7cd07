"""`python -m training`: this floor alone."""

from training.commands import app
from runtime.console import run

run(app, "python -m training")
