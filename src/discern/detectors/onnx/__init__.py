"""ONNX files looked at without running them."""
