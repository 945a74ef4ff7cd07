"""Formats: the deployable module becomes .pt2, ONNX and TorchScript files that name no machine, path or user.

In the order of reading: program (torch.export of the module, and .pt2), onnx_file (the program as ONNX, after the
passes), torchscript (the module, traced in another process), archive (PyTorch's zip files, written again).

The room does not know whether a file is right; the gate does.
"""
