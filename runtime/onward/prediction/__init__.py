"""Prediction: images of a source become rows of a file, in order and at full speed; any crash can be resumed."""

from onward.prediction.batch import Batch, BatchResult, predict_batch
from onward.prediction.engine import Engine, open_engine
from onward.prediction.options import PredictKeywords, PredictOptions
from onward.prediction.pipeline import predict
from onward.prediction.summary import Counts, Failure, Summary

__all__ = [
    "Batch",
    "BatchResult",
    "Counts",
    "Engine",
    "Failure",
    "PredictKeywords",
    "PredictOptions",
    "Summary",
    "open_engine",
    "predict",
    "predict_batch",
]
