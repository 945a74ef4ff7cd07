"""The command line. Importing a module of this room loads neither PyTorch, onnxruntime nor numpy."""
