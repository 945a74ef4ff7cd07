"""The top floor: a model becomes a bundle, behind the parity gate.

`publish` is the whole way: model_to_export (what goes in) → deployable (the module that is exported) → reference/
(float64 outputs and the noise floor) → formats/ (the artifacts; passes/ changes the ONNX graph) → gate (outputs, and
weights/ for the stored values; opening/ runs the artifacts in a fresh process) → report/ (parity.html). failed_formats
keeps account of the formats that are not published. explanation/ finds the node at which an ONNX file goes wrong.
api, commands and demo call it; options and signature_options read what the user asked for.

This floor uses both floors below. It does not know how a model was trained.
"""
