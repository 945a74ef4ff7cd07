"""Quantisation: an INT8 artifact from a float32 one, judged by what the task loses.

`quantize` is the whole; `preparation`, `placement`, `calibration`, `integers` and `graph` make the file, `selection`
chooses nodes that stay in float32, `account`, `simulation` and `gate` judge the file.
"""

from onward_export.quantization.images import QuantizationImages
from onward_export.quantization.options import QuantizeKeywords, QuantizeOptions
from onward_export.quantization.quantize import quantize_bundle

__all__ = ["QuantizationImages", "QuantizeKeywords", "QuantizeOptions", "quantize_bundle"]
