// onnxruntime would send events to its maker unless this is set before it is loaded.
process.env.ORT_DISABLE_TELEMETRY ??= "1";
