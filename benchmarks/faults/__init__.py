"""Faults: does the gate find every fault planted in an ONNX file, and is the right node named?

In the order of reading: networks (where faults are planted), planted (one fault), weight_faults and node_faults (what
is changed), bench (one fault and its verdict), campaign (many, in processes, resumable), page (docs/faults.md).
"""
