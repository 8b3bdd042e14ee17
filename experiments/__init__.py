"""Experiments: each a module with a dataclass of options and a `run(options) -> Result`, on funcnn's public API alone."""
