"""Experiments: each a module or a package here with a dataclass of options and a `run(options) -> Result`.

They stand on funcnn's public API alone, and on `core`, which is what they share.
"""
