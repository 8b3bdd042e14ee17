"""The one place where arithmetic is chosen for speed, and where private parts of torch are touched.

Products: torch's float32 matmul is MKL's, which leaves the wide vectors of other makers' processors unused. On AMD's Zen 5
it reaches 105 GFLOP/s a core, where oneDNN, inside the same torch, reaches 210 to 230 with the same accuracy (relative error
below 1e-6 at K = 784); on Zen 4, whose vectors are half as wide, both reach 100 to 110, and from 2^25 multiplications on
oneDNN takes 0.92 to 0.96 of MKL's time if A lies row by row (one that does not it copies, which costs what it gains). Torch
offers oneDNN's product only as `torch.ops.mkldnn._linear_pointwise`, made for inference: it knows neither autograd nor vmap.
Explicit gradients need neither. So there oneDNN serves where nobody is watching: a plain float32 product on the CPU outside
every transform, large enough to repay its overhead of about 10 us. What the processor is decides, never a measurement: two
runs of one seed give the same bits.

A compiled step calls the same kernel under a name of our own: Inductor knows oneDNN's only for constant weights.

Lists: one call of torch._foreach_add for all leaves of a tree costs about as much as three additions of small tensors, and
one launch on an accelerator. It has no vmap rule, so under torch.func the leaves are added one by one.

Modes: torch keeps whether there is a tape, the levels of its transforms and its dispatch modes for the whole thread. A
Ctrl-C may come between their beginning and their end, so whoever is called from outside is `undisturbed`.
"""

import platform
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import get_dynamic_layer_stack_depth, pop_dynamic_layer_stack_and_undo_to_depth
from torch._functorch import eager_transforms
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad

LARGE = 2**21  # multiplications: below, the overhead of oneDNN costs more than its speed saves
LARGE_ON_ZEN_4 = 2**25
SMALL = 2**24  # M K K H of a product that is not so large or narrow, which is told sooner
NARROW = 8  # a side shorter than this makes the product one of vectors, which only memory limits


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The product A B of (..., M, K) and a matrix (K, H)."""
    if a.numel() * b.numel() < SMALL or a.numel() * b.shape[-1] < LARGE or not _onednn_serves(a, b):
        return a @ b
    return _linear(a, b.T, None)


def affine(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """The product X W + 1 b of X (..., D), W (D, H) and b (H,)."""
    if x.ndim != 2:
        return affine(x.reshape(-1, x.shape[-1]), w, b).reshape(*x.shape[:-1], w.shape[1])
    if x.numel() * w.numel() < SMALL or x.numel() * w.shape[1] < LARGE or not _onednn_serves(x, w) or _needs_tape(b):
        return torch.addmm(b, x, w)
    return _linear(x, w.T, b)


def under_transform() -> bool:
    """Whether values cannot be looked at: inside vmap, grad or another torch.func transform, or where a graph is traced."""
    return bool(torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack())


def traced() -> bool:
    """Whether operations go through a dispatch mode on their way, as where a graph is traced, and may not run yet."""
    return bool(torch._C._len_torch_dispatch_stack())


def bare(x: Tensor) -> Tensor:
    """The tensor beneath the wrappers of torch's transforms."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x


def beneath_transforms() -> AbstractContextManager[None]:
    """Where torch's transforms see nothing of what is done."""
    context: AbstractContextManager[None] = torch._C._DisableFuncTorch()
    return context


def constant(x: Tensor) -> Tensor:
    """A tensor that belongs to a function and never changes; traced, a constant of the graph."""
    y: Tensor = torch.ops.aten.lift_fresh_copy(x) if traced() else x
    return y


def _onednn_serves(a: Tensor, b: Tensor) -> bool:
    return (
        a.ndim == b.ndim == 2
        and min(*a.shape, b.shape[1]) >= NARROW
        and a.dtype == b.dtype == torch.float32
        and a.device.type == b.device.type == "cpu"
        and not _needs_tape(a)
        and not _needs_tape(b)
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and _onednn_is_sooner(a, b)
    )


def _onednn_is_sooner(a: Tensor, b: Tensor) -> bool:
    if zen() != 4:
        return zen() > 4
    return a.is_contiguous() and a.numel() * b.shape[1] >= LARGE_ON_ZEN_4


def _needs_tape(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


@cache
def zen() -> int:
    """4 on AMD's Zen 4, 5 from Zen 5 on; 0 on any other processor, and where torch has not both oneDNN and MKL."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return 0
    try:
        processor = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        processor = platform.processor()  # Windows: "AMD64 Family 26 Model 68 Stepping 0, AuthenticAMD"
    found = re.search(r"family\s*:?\s*(\d+)", processor, re.IGNORECASE)
    family = int(found[1]) if found and "AuthenticAMD" in processor else 0
    # Zen 3 is of the same family as Zen 4, and has no AVX-512.
    return 5 if family > 25 else 4 if family == 25 and torch.backends.cpu.get_cpu_capability() == "AVX512" else 0


def _onednn(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, w, b, "none", [], "")
    return y


def _readable(x: Tensor) -> Tensor:
    """The matrix itself where its numbers lie row by row or column by column, as oneDNN reads them, else a copy."""
    return x if x.is_contiguous() or x.T.is_contiguous() else x.contiguous()


def _linear(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """The product X W^T + 1 b of X (N, D), W (H, D) and b (H,)."""
    b = None if b is None else b.contiguous()  # oneDNN takes it to be so, and would read past the end
    if not isinstance(x, FakeTensor):
        return _onednn(_readable(x), _readable(w), b)
    # oneDNN copies a transposed x; said in the graph, Inductor writes x in that order to begin with.
    y: Tensor = torch.ops.funcnn.linear(x.contiguous(), _readable(w), b)
    return y


def sigmoid_pullback(s: Tensor, dy: Tensor) -> Tensor:
    """The product dy s (1 - s), in one pass and not in three."""
    dx: Tensor = torch.ops.aten.sigmoid_backward(dy, s)
    return dx


def tanh_pullback(t: Tensor, dy: Tensor) -> Tensor:
    """The product dy (1 - t^2), in one pass and not in three."""
    dx: Tensor = torch.ops.aten.tanh_backward(dy, t)
    return dx


def relu_pullback(y: Tensor, dy: Tensor) -> Tensor:
    """The gradient dy where y > 0 or y is NaN, else 0, in one pass."""
    dx: Tensor = torch.ops.aten.threshold_backward(dy, y, 0)
    return dx


def convolution_weights(
    dy: Tensor,
    x: Tensor,
    w: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """The gradient of the weights w of a convolution, of which only the shape matters, without that of its inputs."""
    where = (stride, padding, dilation, False, [0] * len(stride), groups)
    dw: Tensor = torch.ops.aten.convolution_backward(dy, x, w, None, *where, [False, True, False])[1]
    return dw


def add_scaled(xs: list[Tensor], factor: float | Tensor, ys: list[Tensor]) -> list[Tensor]:
    """The sums x + a y, pair by pair; a is a tensor without axes where it changes within a compiled function."""
    if isinstance(factor, Tensor):
        return [
            (x + factor * y.to(torch.promote_types(y.dtype, torch.float32))).to(x.dtype) for x, y in zip(xs, ys, strict=True)
        ]
    if not abs(factor) <= 65504:  # the largest of float16: torch refuses an alpha beyond the range of the dtype
        return [x + factor * y for x, y in zip(xs, ys, strict=True)]
    if not xs or torch._C._are_functorch_transforms_active():
        return [torch.add(x, y, alpha=factor) for x, y in zip(xs, ys, strict=True)]
    return list(torch._foreach_add(xs, ys, alpha=factor))


def between(x: Tensor, y: Tensor, share: float | Tensor) -> Tensor:
    """The point x + c (y - x); c is a tensor without axes where it changes within a compiled function."""
    if not isinstance(share, Tensor):
        return torch.lerp(x, y, share)
    return add_scaled([x], share, [y - x])[0]


def is_in_place(operation: Any) -> bool:
    """Whether an operation of torch.ops writes into what it is given."""
    return bool(operation._schema.is_mutable)


def undisturbed(call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call returns. Where it ends with an exception, torch's modes are again those from before."""
    before, handled = _modes(), sys.exc_info()[1]
    try:
        return call(*arguments)
    except BaseException as error:
        raise _restored(before, handled, error)  # noqa: B904  it is that error, or the Ctrl-C that caused it


def without_tape(call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call returns with gradients switched off, as in torch.no_grad, and undisturbed as above."""
    before, handled = _modes(), sys.exc_info()[1]
    try:
        torch._C._set_grad_enabled(False)
        result = call(*arguments)
        torch._C._set_grad_enabled(before[0])
        return result
    except BaseException as error:
        raise _restored(before, handled, error)  # noqa: B904


def _modes() -> tuple[bool, int, int, int, int, int, bool]:
    """The tape, levels of torch.func and of forward mode, modes of dispatch and of functions, hooks of saving."""
    return (
        torch.is_grad_enabled(),
        get_dynamic_layer_stack_depth(),
        forward_ad._current_level,
        eager_transforms.JVP_NESTING,
        torch._C._len_torch_dispatch_stack(),
        torch._C._len_torch_function_stack(),
        torch._C._autograd._saved_tensors_hooks_is_enabled(),  # type: ignore[attr-defined]  # torch's stubs lack it
    )


def _restored(
    before: tuple[bool, int, int, int, int, int, bool], handled: BaseException | None, error: BaseException
) -> BaseException:
    """The error to raise, with the modes from before. `handled` is what the caller was handling already."""
    grad, level, dual_level, nesting, stack, functions, hooks = before
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__context__) is not None and cause is not handled and cause not in chain:
        chain.append(cause)
    interrupts = [one for one in chain if not isinstance(one, Exception)]
    if interrupts or _modes() != before:
        for one in chain:  # a block that was entered and not begun ends when its frame is gone, and must not do so later
            traceback.clear_frames(one.__traceback__)
        while torch._C._len_torch_dispatch_stack() > stack:
            torch._C._pop_torch_dispatch_stack(None)
        while torch._C._len_torch_function_stack() > functions:
            torch._C._pop_torch_function_stack()
        if get_dynamic_layer_stack_depth() > level:
            pop_dynamic_layer_stack_and_undo_to_depth(level)
        with suppress(RuntimeError):  # where there is none: what Python counts may be one behind
            torch._C._exit_dual_level(level=dual_level + 1)
        forward_ad._current_level, eager_transforms.JVP_NESTING = dual_level, nesting
        if hooks:
            torch._C._autograd._saved_tensors_hooks_enable()
        torch._C._set_grad_enabled(grad)
    # Torch ends a level that a Ctrl-C kept from beginning, and then complains of that.
    return interrupts[-1] if interrupts and isinstance(error, RuntimeError) else error


_library = torch.library.Library("funcnn", "DEF")
_library.define("linear(Tensor x, Tensor w, Tensor? b) -> Tensor")
_library.impl("linear", _onednn, "CPU")
_library.impl("linear", lambda x, w, b: x.new_empty(x.shape[0], w.shape[0]), "Meta")
