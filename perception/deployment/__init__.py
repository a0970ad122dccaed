"""A trained model outside of training: exported to ONNX, quantised, run by any engine, in a vehicle.

    export/   one plugin-free ONNX network and the sidecar that describes it
    engines/  torch, ONNX Runtime, OpenVINO and TensorRT behind one interface
    int8/     quantised networks, searched so that every task keeps its score
    measure/  latency, parity and scores of engines
    vehicle/  the loop that runs in a car

`deployed.DeployedModel` is the door: a model whose network any engine computes.
"""
