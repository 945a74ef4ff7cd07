"""The middle floor: data and an architecture become a checkpoint. Knows nothing of ONNX."""
