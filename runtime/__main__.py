"""`python -m runtime`: this floor alone."""

from runtime.commands import app
from runtime.console import run

run(app, "python -m runtime")
