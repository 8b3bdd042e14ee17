"""The bits of arguments, and of what is global."""

import os
import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.fuzz.case import children


def bits(value: Any, above: frozenset[int] = frozenset()) -> Any:
    """Everything that a call might change in a tree: containers by identity, tensors by their memory, versions and flags."""
    if isinstance(value, Tensor):
        return _of_tensor(value)
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    inside = children(value)
    if not inside or id(value) in above or len(above) > 50:
        return id(value), type(value)
    return id(value), [(key, id(child), bits(child, above | {id(value)})) for key, child in inside]


def _of_tensor(x: Tensor) -> Any:
    flags = x.layout, x.dtype, x.requires_grad, x.grad_fn, None if x.grad is None else id(x.grad)
    version = None if x.is_inference() else x._version
    if x.layout is torch.sparse_coo:
        return flags, version, bits(x._indices()), bits(x._values())
    if x.layout in (torch.sparse_csr, torch.sparse_csc):
        return flags, version, bits(x.values())
    if x.is_nested or x.device.type == "meta":
        return flags, version, bits(x.values()) if x.layout is torch.jagged else None
    memory = torch.empty(0, dtype=torch.uint8).set_(x.untyped_storage())
    return flags, version, tuple(x.shape), x.stride(), x.storage_offset(), memory.numpy().tobytes()


def world() -> Any:
    """What is global, and neither read nor changed by a pure function."""
    _, numbers, position, *_ = np.random.get_state()
    return (
        torch.get_rng_state().numpy().tobytes(),
        (numbers.tobytes(), position),
        random.getstate(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        os.getcwd(),
    )
