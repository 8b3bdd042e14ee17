"""A whole training step as one compiled function: forward, backward and update, or several steps of them.

At small sizes an eager step spends its time between the operations: in Python, in torch's dispatcher and in passing over
the same tensors again. `compiled` traces the step once, down to the plain tensor operations, whatever the provider and the
optimizer are made of, and hands the graph to Inductor, the compiler behind torch.compile, which fuses what lies between
the matrix products into a few C++ loops. Tracing here, rather than by torch.compile itself, leaves out the guards that
torch.compile would check at every call: the shapes, dtypes and strides that the graph was made for are looked up instead.

An optimizer is handed the function itself, and that knows its step function and its batch; so the gradient is compiled
with the step, and a compiled optimizer is an optimizer. What a stochastic provider draws in a step is drawn before it and
handed in, for within the graph it would be the same in every step.
"""

import warnings
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from .. import tree
from ..batches import tensors
from ..errors import InputError, describe, is_dense
from ..operands import TENSORS, Flattening, check_batch, check_params, check_undivided
from ..providers.doors import lifted, origin
from ..providers.drawn import drawn, given
from ..types import At, Batch, Optimizer, Params, State, Step, Tree, loadable
from .descent import check_state, lift_optimizer
from .products import FORMS

KIND = attrgetter("shape", "dtype", "device", "requires_grad")
ON_GPU = {"triton.cudagraphs": True}
ON_CPU = {"cpp_wrapper": True, "pattern_matcher": False}  # the matcher would make one call of 1 b + X W again
of_step = Flattening("params, state, batch, draws")
Compiled = Callable[[list[Any]], list[Tensor]]


@loadable
class Scan(NamedTuple):
    """What several steps leave behind: `params` and `state` after the last one, and the value of each, (K,)."""

    params: Params
    state: State
    values: Tensor


def compiled(optimizer_fn: Any) -> Optimizer:
    """The same optimizer with every step, the gradient included, compiled as a whole.

        train(step_fn, compiled(sgd(0.1)), params, batches)

    The numbers are those of the optimizer itself to rounding. The first step with new shapes compiles, which takes seconds,
    and so does one with another string or number in its batch, with a warning; labels are looked at by the compiled code.
    Where there is no C++ compiler a warning says so and the steps run eagerly.

    Args:
        optimizer_fn: As for `train`; one that looks at values to decide (a line search) cannot be compiled.

    Raises:
        InputError: as `train`; (in a step) a state of another optimizer, or a step that cannot be traced.
    """
    optimizer = lift_optimizer(optimizer_fn)
    compilations: list[Compilation] = []

    def step(at: At, params: Params, state: State) -> Step:
        if not isinstance(at, At):
            raise InputError("at", describe(at), "At(step_fn, batch), which is what train hands to an optimizer")

        def whole(params: Params, state: State, batch: Batch, draws: Tree) -> Step:
            return optimizer.step(At(given(at.step_fn, draws), batch), params, state)

        arguments = (params, state, at.batch, drawn(at.step_fn, params))
        result: Step = _run(compilations, origin(at.step_fn), whole, optimizer, arguments)
        return result

    return Optimizer(optimizer.init, step)


def compiled_scan(
    step_fn: Callable[[Params, Batch], tuple[Tensor, Params]], optimizer_fn: Any
) -> Callable[[Params, State, Batch], Scan]:
    """Several steps in one call: the function (params, state, batches) -> Scan, batches stacked along a leading axis.

    Each leaf of `batches` has shape (K, N, ...), and K steps are taken, as by `train` with `compiled(optimizer_fn)`, in one
    compiled function, so that compiling takes K times as long. With None for the state it begins anew. (The name is JAX's.)

    Raises:
        InputError: as `compiled`; (when called) leaves that disagree on K.
    """
    provider, optimizer = lifted(step_fn), lift_optimizer(optimizer_fn)
    compilations: list[Compilation] = []

    def whole(params: Params, state: State, batches: Batch, draws: list[Tree]) -> Scan:
        values = []
        for k, draw in enumerate(draws):
            at = At(given(provider, draw), tree.map(lambda leaf, k=k: leaf[k], batches))
            params, state, value = optimizer.step(at, params, state)
            values.append(value)
        return Scan(params, state, torch.stack(values))

    def call(params: Params, state: State, batches: Batch) -> Scan:
        if not tree.leaves(batches) or any(not isinstance(leaf, Tensor) or leaf.ndim < 2 for leaf in tree.leaves(batches)):
            raise InputError("batches", describe(batches), "batches stacked along a leading axis: leaves (K, N, ...)")
        start = optimizer.init(params) if state is None else state
        draws = [drawn(provider, params) for _ in range(len(tree.leaves(batches)[0]))]
        result: Scan = _run(compilations, provider, whole, optimizer, (params, start, batches, draws))
        return result

    return call


class Compilation(NamedTuple):
    """A compiled step: what it was compiled for, the function of the flat leaves, and what builds the result of its own."""

    step_fn: Any
    signature: Any
    run: Compiled
    unflatten: Callable[[list[Tensor]], Any]


def _run(
    compilations: list[Compilation],
    step_fn: Any,
    whole: Callable[..., Any],
    optimizer: Optimizer,
    arguments: tuple[Params, State, Batch, Tree],
) -> Any:
    """What whole(params, state, batch, draws) returns, by a compilation that fits, or by a new one."""
    leaves, spec = of_step(arguments)
    if any(isinstance(leaf, Tensor) and leaf.is_neg() for leaf in leaves):  # the compiled code reads memory, not the bit
        leaves = [leaf.resolve_neg() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        arguments = spec.unflatten(leaves)
    signature = (spec, *_signature(leaves))
    for known in compilations:
        if known.step_fn is step_fn and known.signature == signature:
            return known.unflatten(known.run(leaves))
    params, state, batch, _ = arguments
    check_params(params)
    check_batch(batch)
    for place, operand in (("params", params), ("batch", batch)):
        for leaf in tree.leaves(operand):
            check_undivided(place, leaf)
    if any(known.step_fn is step_fn and known.signature[:2] == signature[:2] for known in compilations):
        needs = "leave out of a batch what its objective does not ask for"
        warnings.warn(
            f"compiled: the step is compiled anew for other strings or numbers in the batch; {needs}", stacklevel=5
        )
    check_state(state, optimizer.init(params))
    for leaf in tree.leaves(state):
        if not is_dense(leaf):
            raise InputError("state", describe(leaf), "dense tensors alone: compiled code would go on with the first number")
    compilations.append(Compilation(step_fn, signature, *_compile(whole, arguments)))
    return compilations[-1].unflatten(compilations[-1].run(leaves))


def _signature(leaves: list[Any]) -> tuple[Any, Any]:
    """The layouts of the tensors, and what else there is: a compiled function has it inside."""
    others: list[Any] = []
    try:
        if not TENSORS.issuperset(map(type, leaves)):
            others = [None if isinstance(leaf, Tensor) else (type(leaf), repr(leaf)) for leaf in leaves]
            leaves = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        return [*map(KIND, leaves), *map(Tensor.stride, leaves)], others
    except (TypeError, RuntimeError):  # a nested or sparse tensor: the checks say which
        return None, others


def _compile(step: Callable[..., Any], arguments: Tree) -> tuple[Compiled, Callable[[list[Tensor]], Any]]:
    """The step as a function of the flat leaves, and what builds its result of its flat results."""
    leaves, unflatten_arguments = tensors(arguments)
    unflatten_result: list[Callable[[list[Tensor]], Any]] = []

    @torch.no_grad()
    def flat(*leaves: Tensor) -> list[Tensor]:
        results, unflatten = tree.flatten(step(*unflatten_arguments(list(leaves))))
        unflatten_result[:] = [unflatten]
        for path, leaf in zip(tree.paths(unflatten(results), "step"), results, strict=True):
            if not isinstance(leaf, Tensor):
                raise InputError(path, describe(leaf), "a tensor: compiled code would go on with the first number")
        return results

    on_gpu = any(leaf.is_cuda for leaf in leaves)
    try:
        graph = make_fx(flat, None if on_gpu else FORMS, tracing_mode="fake")(*leaves)
    except InputError:
        raise
    except Exception as error:
        needs = f"one that takes every tensor as an argument, without looking at values ({str(error).splitlines()[0]})"
        raise InputError("step_fn, optimizer_fn", "a step that torch cannot trace", needs) from error
    (unflatten,) = unflatten_result
    tracked, only_tensors = any(leaf.requires_grad for leaf in leaves), len(leaves) == len(tree.leaves(arguments))
    try:
        function = torch._inductor.compile(graph, [leaf.detach() for leaf in leaves], options=ON_GPU if on_gpu else ON_CPU)
    except Exception as error:
        if not _lacks_compiler(error):
            raise
        warnings.warn("compiled: found no C++ compiler, so the step runs eagerly; install one, such as g++", stacklevel=5)
        return (lambda leaves: flat(*(leaf for leaf in leaves if isinstance(leaf, Tensor)))), unflatten

    def run(leaves: list[Any]) -> list[Tensor]:
        leaves = leaves if only_tensors else [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        try:
            results = function(*(leaf.detach() for leaf in leaves)) if tracked else function(*leaves)
        except RuntimeError as error:
            reason = str(error).splitlines()[0].rsplit(", ", 1)[-1]
            raise InputError(
                "batch", f"values that the compiled step refuses ({reason})", "labels and tokens in range"
            ) from None
        # CUDA graphs write to the same memory at each run: what the caller keeps must be a copy.
        return [x.clone() for x in results] if on_gpu else results

    return run, unflatten


def _lacks_compiler(error: BaseException | None) -> bool:
    from torch._inductor.exc import InvalidCxxCompiler

    while error is not None:
        if isinstance(error, InvalidCxxCompiler) or isinstance(getattr(error, "inner_exception", None), InvalidCxxCompiler):
            return True
        error = error.__cause__ or error.__context__
    return False
