"""A model as one plugin-free ONNX network, and the sidecar that describes it."""
