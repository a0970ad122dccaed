"""The graph as ONNX, and the sidecar that says what belongs to it."""
