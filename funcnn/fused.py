"""One compiled function for a whole training step: forward, backward and update, or several steps of them.

At small sizes an eager step spends its time between the operations: in Python, in torch's dispatcher and in passing over
the same tensors again. `fused` traces the step once, down to the plain tensor operations, whatever the provider and the
optimizer are made of, and hands the graph to Inductor, the compiler behind torch.compile, which fuses what lies between
the matrix products into a few C++ loops. Tracing here, rather than by torch.compile itself, leaves out the guards that
torch.compile would check at every call: the shapes, dtypes and strides that the graph was made for are looked up instead.
"""

import warnings
from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from . import kernels, tree
from .errors import InputError, check_batch, check_count, check_params, describe
from .train import bind, check_state, lift_optimizer, lift_step_fn
from .types import Batch, Params, State, Step, Tree

Compiled = Callable[[list[Tensor]], list[Tensor]]


def fused(
    step_fn: Callable[[Params, Batch], tuple[Tensor, Params]], optimizer_fn: Any, steps: int = 1
) -> Callable[[Params, State, Batch], Step]:
    """Compiles the step that `train` would take into one function (params, state, batch) -> Step.

    The numbers are those of `train` to rounding. The first call with new shapes compiles, which takes seconds; labels are
    checked at run time by the compiled code. Where there is no C++ compiler a warning says so and the step runs eagerly.

    Args:
        step_fn: As for `train`.
        optimizer_fn: As for `train`; one that looks at values to decide (a line search) cannot be compiled.
        steps: How many steps one call takes. With k > 1 each leaf of the batch has k batches stacked along a leading
            axis, and the value of the Step has shape (k,). Compiling takes k times as long.

    Raises:
        InputError: as `train`; steps is no positive integer; (when called) a state of another optimizer, a batch without
            that leading axis, or a step that cannot be traced.
    """
    check_count("steps", steps)
    provider, optimizer = lift_step_fn(step_fn), lift_optimizer(optimizer_fn)
    compiled: list[tuple[Any, Compiled, Callable[[list[Tensor]], Step]]] = []

    def eager(params: Params, state: State, batch: Batch) -> Step:
        values = []
        for k in range(steps):
            own = tree.map(lambda leaf, k=k: leaf[k], batch) if steps > 1 else batch
            params, state, value = optimizer.step(bind(provider, own), params, state)
            values.append(value)
        return Step(params, state, torch.stack(values) if steps > 1 else values[0])

    def check(params: Params, state: State, batch: Batch) -> None:
        check_params(params)
        check_batch(batch)
        check_state(state, optimizer.init(params))
        for leaf in tree.leaves(state):
            if not isinstance(leaf, Tensor):
                raise InputError("state", describe(leaf), "tensors alone: compiled code would go on with the first number")
        for leaf in tree.leaves(batch) if steps > 1 else []:
            if leaf.ndim < 2 or leaf.shape[0] != steps:
                raise InputError("batch", describe(leaf), f"{steps} batches stacked along a leading axis")

    def call(params: Params, state: State, batch: Batch) -> Step:
        arguments = (params, optimizer.init(params) if state is None else state, batch)
        leaves: list[Any]
        leaves, spec = optree.tree_flatten(arguments, none_is_leaf=True)  # type: ignore[arg-type]
        signature = (spec, [_layout(x) if isinstance(x, Tensor) else None for x in leaves])
        for known, run, unflatten in compiled:
            if known == signature:
                return unflatten(run(leaves))
        check(*arguments)
        compiled.append((signature, *_compile(eager, arguments, leaves)))
        return call(params, state, batch)

    return call


def _layout(x: Tensor) -> tuple[Any, ...]:
    return x.shape, x.stride(), x.dtype, x.device, x.requires_grad


def _compile(
    step: Callable[[Params, State, Batch], Step], arguments: Tree, leaves: list[Tensor]
) -> tuple[Compiled, Callable[[list[Tensor]], Step]]:
    """The step as a function of the flat leaves, and what builds a Step of its flat results."""
    _, unflatten_arguments = tree.flatten(arguments)
    unflatten_step: list[Callable[[list[Tensor]], Step]] = []

    @torch.no_grad()
    def flat(*leaves: Tensor) -> list[Tensor]:
        results, unflatten = tree.flatten(step(*unflatten_arguments(list(leaves))))
        unflatten_step[:] = [unflatten]
        return results

    kernels.onednn_is_faster()  # measured before the trace, which has no real tensors to measure with
    try:
        graph = make_fx(flat, tracing_mode="fake")(*leaves)
    except InputError:
        raise
    except Exception as error:
        needs = f"one that takes every tensor as an argument, without looking at values ({str(error).splitlines()[0]})"
        raise InputError("step_fn, optimizer_fn", "a step that torch cannot trace", needs) from error
    (unflatten,) = unflatten_step
    tracked = any(leaf.requires_grad for leaf in leaves)
    try:
        function = torch._inductor.compile(graph, [leaf.detach() for leaf in leaves], options=_options(leaves))
    except Exception as error:
        if not _lacks_compiler(error):
            raise
        warnings.warn("fused: no C++ compiler was found, so the step runs eagerly; install one, such as g++", stacklevel=4)
        return (lambda leaves: flat(*leaves)), unflatten
    on_gpu = any(leaf.is_cuda for leaf in leaves)

    def run(leaves: list[Tensor]) -> list[Tensor]:
        try:
            results = function(*(leaf.detach() for leaf in leaves)) if tracked else function(*leaves)
        except RuntimeError as error:
            reason = str(error).splitlines()[0].rsplit(", ", 1)[-1]
            raise InputError("batch", f"values that the compiled step refuses ({reason})", "labels in range") from None
        # CUDA graphs write their results to the same memory at each run: what the caller keeps must be a copy.
        return [x.clone() for x in results] if on_gpu else results

    return run, unflatten


def _options(leaves: list[Tensor]) -> dict[str, Any]:
    if any(leaf.is_cuda for leaf in leaves):
        return {"triton.cudagraphs": True}
    return {"cpp_wrapper": True}


def _lacks_compiler(error: BaseException | None) -> bool:
    from torch._inductor.exc import InvalidCxxCompiler

    while error is not None:
        if isinstance(error, InvalidCxxCompiler) or isinstance(getattr(error, "inner_exception", None), InvalidCxxCompiler):
            return True
        error = error.__cause__ or error.__context__
    return False
