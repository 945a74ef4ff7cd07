"""Quantisation: an INT8 artifact from a float32 one, judged by what the task loses.

`quantize` is the whole; `preparation`, `placement`, `calibration`, `integers` and `graph` make the file, `selection`
chooses nodes that stay in float32, `account`, `simulation` and `gate` judge the file. Importing this package loads
neither onnx nor PyTorch.
"""

from onward_export.quantization.options import QuantizeKeywords, QuantizeOptions

__all__ = ["QuantizeKeywords", "QuantizeOptions"]
