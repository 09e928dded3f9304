"""ONNX files as detectors."""
