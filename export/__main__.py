"""`python -m export`: this floor alone."""

from export.commands import app
from runtime.console import run

run(app, "python -m export")
