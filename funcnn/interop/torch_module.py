"""A torch module as a layer: its forward made a pure function of parameters, differentiated by torch.

    block = fn.serial(fn.module(pretrained.encoder), fn.dense(64, 10))      parameters ({"weight": ..., ...}, {"w", "b"})

So a part of a model that exists can be replaced by a rule derived by hand, and checked where it stands; and whatever torch
has for a module can stand beside our layers, under every provider. torch.func.functional_call runs the module with tensors
in place of its own; the pullback is torch.func.vjp of that, run again from (params, x), for a tape is no tree of tensors.

A module is an object with a state, a layer a pure function. What is copied of it when the layer is made is all that the
layer knows: whatever becomes of the module later does not matter, and nothing is written to it. Buffers, and parameters
that require no gradient, are constants of the layer. A forward that draws random numbers (dropout) or writes (running
statistics) in the mode that the module is in is no function, and refused: see `effects`.
"""

import copy
from collections.abc import Sequence
from threading import RLock
from typing import Any, TypeVar

import optree
import torch
from torch import Generator, Tensor
from torch.nn.parameter import is_lazy

from .. import kernels
from ..errors import (
    FLOATING,
    InputError,
    check_dtype,
    check_generator,
    check_like,
    check_tensor,
    describe,
    is_dense,
    is_floating,
)
from ..layers.columns import Forward
from ..layers.guarded import Guard, are_numbers
from ..types import Layer, Params, Residuals
from .effects import without_effects

T = TypeVar("T")


def module(nn_module: torch.nn.Module) -> Layer:
    """The layer y = f(params, x) of a torch module from one tensor to one; dparams and dx are torch's.

    Parameters are a nested dict after the module's names, `{"0": {"weight": ..., "bias": ...}, ...}`. Tied ones are one
    leaf, under the first of their names. `init` draws nothing: it gives copies of what the module held when the layer was
    made, in its dtypes and on its devices unless others are asked for. Floating buffers come in the dtype of the parameters
    where these are of another than the module's, as by `module.to(dtype)`. Inputs of integers have no dx: it is ().

    It claims nothing of itself, so differences and gradients per sample take the general way, torch.func.vmap. Modules of
    several inputs or outputs are wrapped in one of one tensor each.

    Raises:
        InputError: it is no torch module, cannot be copied, or has parameters that are lazy or no floating tensors; (when
            called) parameters of other names or shapes, inputs that its forward does not take, outputs that are no floating
            tensor, a forward that draws random numbers or writes to its operands; dy of another shape or dtype.
    """
    own = _copied(nn_module)
    title, lock = f"module({type(nn_module).__name__})", RLock()
    named = dict(own.named_parameters(remove_duplicate=False)) | dict(own.named_buffers(remove_duplicate=False))
    trained = {name: leaf for name, leaf in own.named_parameters() if leaf.requires_grad}
    first = {id(leaf): name for name, leaf in trained.items()}
    which = {name: first[id(leaf)] for name, leaf in named.items() if id(leaf) in first}
    constants = {name: leaf.detach() for name, leaf in named.items() if name not in which}
    start = _nested({name: leaf.detach() for name, leaf in trained.items()})
    leaves, spec = optree.tree_flatten(start, none_is_leaf=True)
    order, dtypes = optree.tree_leaves(_nested({name: name for name in trained})), [leaf.dtype for leaf in leaves]

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        check_generator(generator)
        check_dtype(dtype)
        return spec.unflatten([leaf.to(device=device, dtype=dtype, copy=True) for leaf in leaves])

    def run(leaves: Sequence[Tensor], x: Tensor) -> Tensor:
        values = dict(zip(order, leaves, strict=True))
        kinds = {leaf.dtype for leaf in leaves or [x]} & FLOATING
        dtype = kinds.pop() if len(kinds) == 1 and [leaf.dtype for leaf in leaves] != dtypes else None
        where = (leaves or [x])[0].device
        fixed = {name: kernels.constant(leaf) for name, leaf in constants.items()}
        fixed = {name: leaf.to(where, dtype if leaf.is_floating_point() else None) for name, leaf in fixed.items()}
        tensors = fixed | {name: values[source] for name, source in which.items()}
        operands = [("its inputs", x), *((f"{name!r}", tensors[name]) for name in tensors)]

        def call() -> Any:
            with lock:  # the module is one object, and holds the tensors while it runs
                return torch.func.functional_call(own, dict(tensors), (x,), tie_weights=False)

        try:
            y: Tensor = without_effects(title, call, operands)
        except InputError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"inputs of {title}", describe(x), f"what its forward takes ({reason})") from error
        if not is_dense(y) or not are_numbers({y.dtype}):
            needs = "one floating tensor: wrap it in a module that has one input and returns one output"
            raise InputError(f"outputs of {title}", describe(y), needs)
        return y

    def of(params: Params) -> list[Any]:
        found: list[Any] = spec.flatten_up_to(params)
        return found

    def check(params: Params, x: Tensor) -> None:
        try:
            fit = [leaf.shape for leaf in of(params)] == [leaf.shape for leaf in leaves]
        except (ValueError, AttributeError, RuntimeError):  # another tree, no tensor, or a nested one, which has no shape
            fit = False
        if not fit:
            check_like("params", params, start, exactly=False)
        check_tensor(f"inputs of {title}", x)

    def forward(params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        return run(of(params), x), (params, x)

    def backward(residuals: tuple[Params, Tensor], dy: Tensor) -> tuple[Params, Any]:
        with torch.inference_mode(False):  # whose tensors no tape may save
            params, x = residuals
            own, x, dy = [_usable(leaf) for leaf in of(params)], _usable(x), _usable(dy)
            count, data = len(own), [x] if are_numbers({x.dtype}) else []
            y, pull, *_ = torch.func.vjp(lambda *moved: run(moved[:count], (*moved, x)[count]), *own, *data)
            if (dy.shape, dy.dtype) != (y.shape, y.dtype):
                raise InputError("dy", describe(dy), f"{describe(y)}, as y")
            grads = pull(dy)
        return spec.unflatten(grads[:count]), grads[count] if data else ()

    pullback = Guard(backward, lambda residuals, dy: check_tensor("dy", dy), title=title)
    return Layer(init, Forward(Guard(forward, check), title=title), pullback)


def _copied(nn_module: Any) -> torch.nn.Module:
    """A copy that shares nothing with the module, and does without torch's shortcuts: none changes what it computes."""
    place = "module(nn_module)"
    if not isinstance(nn_module, torch.nn.Module):
        raise InputError(place, describe(nn_module), "a torch.nn.Module, as torch.nn.ReLU() and not torch.nn.ReLU")
    for name, leaf in [*nn_module.named_parameters(), *nn_module.named_buffers()]:
        if is_lazy(leaf):
            raise InputError(place, f"the lazy {name!r}", "a module that has run once, so that its shapes are known")
        if leaf.requires_grad and not is_floating(leaf):
            raise InputError(place, f"{name!r}, {describe(leaf)}", "parameters that are dense floating tensors")
    try:
        with torch.inference_mode(False):
            own = copy.deepcopy(nn_module)
    except (RuntimeError, TypeError) as error:
        raise InputError(place, f"what copy.deepcopy refuses ({error})", "a module that can be copied") from error
    for name, part in own.named_modules():
        if getattr(part, "max_norm", None) is not None:
            raise InputError(place, f"{name!r} with max_norm", "an embedding without, for it writes to its weights")
        if getattr(part, "inplace", False):
            part.inplace = False
        if isinstance(part, torch.nn.TransformerEncoderLayer):
            part.activation_relu_or_gelu = 0  # its fused forward has neither a derivative nor a vmap
        if isinstance(part, torch.nn.MultiheadAttention) and not part.training:
            part.training, part.dropout = True, 0.0  # the same
    own.zero_grad(set_to_none=True)
    return own


def _nested(named: dict[str, T]) -> Any:
    """{"0.weight": x} as {"0": {"weight": x}}; () of nothing."""
    tree: dict[str, Any] = {}
    for name, leaf in named.items():
        *path, last = name.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {})
        place[last] = leaf
    return tree or ()


def _usable(x: Tensor) -> Tensor:
    return x.clone() if x.is_inference() else x
