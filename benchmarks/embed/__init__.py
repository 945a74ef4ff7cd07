"""What an embedded model costs: bytes, cold start, latency and throughput of each app, beside its bare onnxruntime."""
