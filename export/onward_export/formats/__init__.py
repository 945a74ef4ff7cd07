"""Formats: one exported program becomes .pt2 and ONNX; the module itself is traced to TorchScript."""
