"""A torch module as a layer: its forward made a pure function of parameters, differentiated by torch.

    block = fn.serial(fn.module(pretrained.encoder), fn.dense(64, 10))      parameters ({"weight": ..., ...}, {"w", "b"})

So a part of a model that exists can be replaced by a rule derived by hand, and checked where it stands; and whatever torch
has for a module can stand beside our layers, under every provider. torch.func.functional_call runs the module with tensors
in place of its own; the pullback is torch's, of the forward run again from (params, x), for a tape is no tree of tensors.

A module is an object with a state, a layer a pure function. What is copied of it when the layer is made is all that the
layer knows: whatever becomes of the module later does not matter, and nothing is written to it (see `copied`). Buffers, and
parameters that require no gradient, are constants of the layer. A forward that draws random numbers (dropout) or writes
(running statistics) in the mode that the module is in is no function, and refused: see `effects`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from threading import RLock
from typing import Any, TypeVar

import optree
import torch
from torch import Generator, Tensor

from .. import kernels
from ..errors import FLOATING, InputError, check_dtype, check_generator, check_tensor, describe, is_dense
from ..layers.columns import Forward
from ..layers.guarded import Guard, are_numbers
from ..operands import OTHER, check_like
from ..types import Layer, Params, Residuals
from .copied import Copied
from .effects import check_function, refused, without_effects

T = TypeVar("T")
Run = Callable[..., Any]


def module(nn_module: torch.nn.Module) -> Layer:
    """The layer y = f(params, x) of a torch module from one tensor to one; dparams and dx are torch's.

    Parameters are a nested dict after the module's names, `{"0": {"weight": ..., "bias": ...}, ...}`. Tied ones are one
    leaf, under the first of their names; what two modules share, as parts of one model may, is theirs no longer. `init`
    draws nothing: it gives copies of what the module held when the layer was made, in its dtypes and on its devices unless
    others are asked for. Floating constants come in the dtype of the parameters, or of the inputs if there are none, where
    these are of another than the module's, as by `module.to(dtype)`. Inputs of integers have no dx: it is ().

    It claims nothing of itself, so differences and gradients per sample take the general way, torch.func.vmap. Modules of
    several inputs or outputs are wrapped in one of one tensor each.

    Raises:
        InputError: it is no torch module, cannot be copied or called with other parameters, or has parameters that are lazy,
            without numbers, no floating tensors, or with hooks; (when called) parameters of other names or shapes, inputs
            that its forward does not take, outputs that are no floating tensor, a forward that draws random numbers or
            writes to its operands; dy of another shape or dtype; a backward that torch does not have.
    """
    own = Copied(nn_module)
    title, lock = f"module({type(nn_module).__name__})", RLock()
    looked_at: list[bool] = []  # once it has run
    first = {id(leaf): name for name, leaf in own.trained.items()}
    which = {name: first[id(leaf)] for name, leaf in own.named.items() if id(leaf) in first}
    constants = {name: leaf.detach() for name, leaf in own.named.items() if name not in which}
    start = _nested({name: leaf.detach().clone() for name, leaf in own.trained.items()})
    leaves, spec = optree.tree_flatten(start, none_is_leaf=True)
    order, dtypes = optree.tree_leaves(_nested({name: name for name in own.trained})), [leaf.dtype for leaf in leaves]
    kinds_of_constants = {leaf.dtype for leaf in constants.values()} & FLOATING
    whole = _Whole(own.module)

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        check_generator(generator)
        check_dtype(dtype)
        return spec.unflatten([leaf.to(device=device, dtype=dtype, copy=True) for leaf in leaves])

    def run(leaves: Sequence[Tensor], x: Tensor, then: Run) -> Any:
        """What `then` makes of the outputs while the module has these parameters."""
        values = dict(zip(order, leaves, strict=True))
        kinds = {leaf.dtype for leaf in leaves or [x]} & FLOATING
        moved = [leaf.dtype for leaf in leaves] != dtypes if leaves else len(kinds_of_constants) == 1
        dtype = kinds.pop() if len(kinds) == 1 and moved else None
        where = (leaves or [x])[0].device
        fixed = {name: kernels.constant(leaf) for name, leaf in constants.items()}
        fixed = {name: leaf.to(where, dtype if leaf.is_floating_point() else None) for name, leaf in fixed.items()}
        tensors = fixed | {name: values[source] for name, source in which.items()}
        # Views, for what sets the .data of one does not set that of the caller's.
        x, tensors = x.view_as(x), {name: leaf.view_as(leaf) for name, leaf in tensors.items()}
        operands = [("its inputs", x), *((f"{name!r}", leaf) for name, leaf in (tensors | own.plain).items())]
        inside = {f"own.{name}": leaf for name, leaf in tensors.items()}

        def call(then: Run) -> Any:
            given = dict(inside)  # in which functional_call leaves what the module has in the end
            with lock, own.in_use():  # the module is one object, and holds the tensors while it runs
                result = torch.func.functional_call(whole, given, (x, lambda y: then(fitting(y))), tie_weights=False)
            for name in [name for name in inside if given[name] is not inside[name]][:1]:
                raise refused(title, f"sets {name.removeprefix('own.')!r}")
            return result

        try:
            if not (looked_at or kernels.traced()):
                with lock:
                    check_function(title, partial(call, _same), operands, own.filled)
                looked_at.append(True)
            return without_effects(title, partial(call, then), operands)
        except InputError:
            raise
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if "functorch" in str(error) or "torch.func" in str(error):
                needs = f"explicit or autograd, which keep a tape ({_reason(error)})"
                raise InputError(title, "a forward that torch.func cannot follow", needs) from error
            raise InputError(f"inputs of {title}", describe(x), f"what its forward takes ({_reason(error)})") from error

    def fitting(y: Any) -> Any:
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
        except (*OTHER, AttributeError, RuntimeError):  # another tree, no tensor, or a nested one, which has no shape
            fit = False
        if not fit:
            check_like("params", params, start, exactly=False)
        check_tensor(f"inputs of {title}", x)
        for leaf in of(params):
            check_tensor("params", leaf)
        if any(leaf.is_meta != x.is_meta for leaf in of(params)):
            raise InputError(f"inputs of {title}", f"{describe(x)} on {x.device}", "the device of the parameters")

    def forward(params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        return run(of(params), x, _same), (params, x)

    def backward(residuals: tuple[Params, Tensor], dy: Tensor) -> tuple[Params, Any]:
        with torch.inference_mode(False):  # whose tensors no tape may save
            params, x = residuals
            own, x, dy = [_usable(leaf) for leaf in of(params)], _usable(x), _usable(dy)
            count, data = len(own), [x] if are_numbers({x.dtype}) else []
            watched = torch.is_grad_enabled() and any(leaf.requires_grad for leaf in (*own, x, dy))
            pulled = _by_transform if watched or kernels.under_transform() else _by_tape
            grads = pulled(title, lambda *moved, then=_same: run(moved[:count], (*moved, x)[count], then), [*own, *data], dy)
        return spec.unflatten(grads[:count]), grads[count] if data else ()

    pullback = Guard(backward, lambda residuals, dy: check_tensor("dy", dy), title=title)
    return Layer(init, Forward(Guard(forward, check), title=title), pullback)


class _Whole(torch.nn.Module):
    """A module with what is made of its outputs: both run while it has the tensors of functional_call."""

    def __init__(self, own: torch.nn.Module) -> None:
        super().__init__()
        self.own = own

    def forward(self, x: Tensor, then: Run) -> Any:
        """then(own(x))."""
        return then(self.own(x))


def _same(y: Tensor) -> Tensor:
    return y


def _by_transform(title: str, function: Run, tensors: list[Tensor], dy: Tensor) -> Sequence[Tensor]:
    """The gradients by torch.func, which can be transformed in turn."""
    y, pull, *_ = torch.func.vjp(function, *tensors)
    _check_dy(dy, y)
    grads: Sequence[Tensor] = pull(dy)
    return grads


def _by_tape(title: str, function: Run, tensors: list[Tensor], dy: Tensor) -> Sequence[Tensor]:
    """The same by a tape, which knows autograd Functions of every kind, hooks and checkpoints."""
    moved = [x.detach().requires_grad_() for x in tensors]

    def gradients(y: Tensor) -> Sequence[Tensor]:
        _check_dy(dy, y)
        if not y.requires_grad:
            return [torch.zeros_like(x) for x in tensors]
        try:
            return torch.autograd.grad(y, moved, dy, allow_unused=True, materialize_grads=True)
        except RuntimeError as error:
            needs = f"one that torch.autograd.grad goes back through ({_reason(error)})"
            raise InputError(title, "a forward", needs) from error

    with torch.enable_grad():
        grads: Sequence[Tensor] = function(*moved, then=gradients)
    return grads


def _check_dy(dy: Tensor, y: Tensor) -> None:
    if (dy.shape, dy.dtype) != (y.shape, y.dtype):
        raise InputError("dy", describe(dy), f"{describe(y)}, as y")


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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
