"""Detectors of torchvision: `torchvision:NAME`, with weights from a file or torchvision's own."""
