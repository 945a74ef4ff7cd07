"""The ground floor: a bundle becomes predictions. Never needs torch."""

__version__ = "0.1.0"
