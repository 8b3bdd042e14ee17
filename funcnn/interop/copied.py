"""A copy of a torch module, as a layer is made of it: it shares nothing with the module, and no call leaves a trace in it.

A forward may set attributes of its module: a counter, a cache, the weights of its last attention. The copy has them again as
they were when it was made before every call, so that what they say does not depend on the calls before.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from .. import kernels
from ..errors import InputError, describe, is_floating

PLACE = "module(nn_module)"
OWN = frozenset(vars(torch.nn.Module()))  # the attributes that every module has


class Copied:
    """The copy, and what it holds.

    named     its parameters and buffers, by all their names
    trained   its parameters that require gradients, by the first of their names
    plain     tensors that are neither parameters nor buffers
    """

    def __init__(self, nn_module: Any) -> None:
        """Raises InputError unless it is a module that can be copied and called with other parameters."""
        _check(nn_module)
        try:
            with torch.inference_mode(False):
                self.module = copy.deepcopy(nn_module)
        except Exception as error:
            raise InputError(PLACE, f"what copy.deepcopy refuses ({error})", "a module that can be copied") from error
        theirs = {leaf.data_ptr() for leaf in nn_module.parameters() if leaf.numel()}
        for name, leaf in self.module.named_parameters():
            if leaf.data_ptr() in theirs:
                raise InputError(PLACE, f"a copy that shares {name!r} with it", "a module that copy.deepcopy copies whole")
        for name, part in self.module.named_modules():
            _without_shortcuts(name, part)
        self.module.zero_grad(set_to_none=True)
        self.named: dict[str, Tensor] = dict(self.module.named_parameters(remove_duplicate=False))
        self.named |= self.module.named_buffers(remove_duplicate=False)
        self.trained = {name: leaf for name, leaf in self.module.named_parameters() if leaf.requires_grad}
        parts = dict(self.module.named_modules())
        own = {
            f"{name}.{key}".lstrip("."): x for name, part in parts.items() for key, x in vars(part).items() if key not in OWN
        }
        self.plain = {name: x for name, x in own.items() if isinstance(x, Tensor)}
        self._containers = [(x, copy.copy(x)) for x in own.values() if type(x) in (list, dict, set)]
        self._attributes: list[tuple[Any, dict[str, Any]]] = [(vars(part), dict(vars(part))) for part in parts.values()]

    @contextmanager
    def in_use(self) -> Iterator[torch.nn.Module]:
        """The module; whatever its forward sets or adds to a list, dict or set of its own, is put back afterwards."""
        try:
            yield self.module
        finally:
            for attributes, held in self._attributes:
                if len(attributes) != len(held) or any(attributes.get(name) is not x for name, x in held.items()):
                    attributes.clear()
                    attributes.update(held)
            for container, items in self._containers:
                container.clear()
                container.extend(items) if isinstance(container, list) else container.update(items)

    def filled(self, number: float) -> None:
        """Writes a number over all trained parameters: others are given at every call, and nobody is to read these."""
        with kernels.beneath_transforms(), torch.no_grad():
            for leaf in self.trained.values():
                leaf.detach().fill_(number)


def _check(nn_module: Any) -> None:
    if not isinstance(nn_module, torch.nn.Module):
        raise InputError(PLACE, describe(nn_module), "a torch.nn.Module, as torch.nn.ReLU() and not torch.nn.ReLU")
    for name, part in nn_module.named_modules():
        which = f"{name!r}, {describe(part)}" if name else describe(part)
        if isinstance(part, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            raise InputError(PLACE, which, "the module inside, its .module")
        if isinstance(part, torch.jit.ScriptModule):
            raise InputError(PLACE, which, "the module that it was made of: torch.jit takes no other parameters")
    for name, leaf in [*nn_module.named_parameters(), *nn_module.named_buffers()]:
        if is_lazy(leaf):
            raise InputError(PLACE, f"the lazy {name!r}", "a module that has run once, so that its shapes are known")
        if leaf.is_meta:
            raise InputError(PLACE, f"{name!r} on the device meta", "a module with numbers, as after to_empty and a start")
        if leaf.requires_grad and not is_floating(leaf):
            raise InputError(PLACE, f"{name!r}, {describe(leaf)}", "parameters that are dense floating tensors")
        if leaf._backward_hooks or leaf._post_accumulate_grad_hooks:
            raise InputError(PLACE, f"{name!r} with a hook on its gradient", "a module without: gradients are returned here")


def _without_shortcuts(name: str, part: Any) -> None:
    """Switches torch's shortcuts off in a part of the copy: none changes what it computes."""
    if isinstance(part, (torch.nn.Embedding, torch.nn.EmbeddingBag)):
        if part.max_norm is not None:
            raise InputError(PLACE, f"{name!r} with max_norm", "an embedding without, for it writes to its weights")
        part.sparse = False  # the same gradient, with its zeros
    if getattr(part, "inplace", False):
        part.inplace = False
    if isinstance(part, torch.nn.TransformerEncoderLayer):
        part.activation_relu_or_gelu = 0  # its fused forward has neither a derivative nor a vmap
    if isinstance(part, torch.nn.MultiheadAttention) and not part.training:
        part.training, part.dropout = True, 0.0  # the same
