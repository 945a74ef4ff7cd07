"""INT8 of `onward quantize` beside onnxruntime's own quantizer and NNCF, in one run."""
