"""Our rules in classic PyTorch."""
