"""Predict: inputs → pixels → model → rows, in order, at the machine's limit, through any crash."""

from runtime.predict.engine import Engine, open_engine
from runtime.predict.options import Options
from runtime.predict.run import predict
from runtime.predict.summary import Failure, Summary

__all__ = ["Engine", "Failure", "Options", "Summary", "open_engine", "predict"]
