"""Predict: inputs → pixels → model → rows, in order, at the machine's limit, through any crash."""

from onward.prediction.engine import Engine, open_engine
from onward.prediction.options import PredictOptions
from onward.prediction.pipeline import predict
from onward.prediction.summary import Failure, Summary

__all__ = ["Engine", "Failure", "PredictOptions", "Summary", "open_engine", "predict"]
