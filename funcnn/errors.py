"""Bad input: one exception that says where, what was found and what is needed, and the checks that raise it.

The checks of this module look at shapes, dtypes and types, never at values, so they cost about a microsecond, work under
every torch.func transform and never make an accelerator wait.
"""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

FLOATING = frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16})
COMPLEX = frozenset({torch.complex128, torch.complex64})  # what a complex step carries through the same rules


class InputError(ValueError):
    """Bad input. `place` is written as code, such as `params[0]['w']`."""

    def __init__(self, place: str, got: object, needs: str) -> None:
        """Keeps the three parts, so that a caller who knows more can name the place better."""
        try:
            super().__init__(f"{place}: got {got}, needs {needs}")
        except RecursionError:  # it holds itself, or is a thousand levels deep
            got = f"a {type(got).__name__} without end"
            super().__init__(f"{place}: got {got}, needs {needs}")
        self.place, self.got, self.needs = place, got, needs

    def __reduce__(self) -> tuple[Any, ...]:
        """The same error in another process."""
        return type(self), (self.place, self.got, self.needs)

    def inside(self, index: int) -> "InputError":
        """The same error seen from a container: `params['w']` of its layer 0 is `params[0]['w']`."""
        return self.renamed("params", f"params[{index}]")

    def renamed(self, old: str, new: str) -> "InputError":
        """The same error where what it calls old is called new, in its place and in the place that it compares with."""
        needs = self.needs.replace(f"as {old}", f"as {new}", 1)
        return InputError(self.place.replace(old, new, 1), self.got, needs)


def describe(x: object) -> str:
    """What was found, in the words of an error message."""
    if isinstance(x, Tensor):
        dtype = str(x.dtype).removeprefix("torch.")
        if x.layout != torch.strided or x.is_nested or x.is_quantized:
            kind = "nested" if x.is_nested else "quantized" if x.is_quantized else str(x.layout).removeprefix("torch.")
            return f"a {kind} tensor of {dtype}"
        return f"shape {tuple(x.shape)} of {dtype}"
    shown = repr(x) if x is None or isinstance(x, (str, int, float)) else ""
    return shown if 0 < len(shown) < 60 else f"a {type(x).__name__}"


def check_number(place: str, x: Any, minimum: float = 0.0, below: float = math.inf) -> float:
    """The number x as a float. Raises InputError unless minimum <= x < below (so for NaN and infinity)."""
    try:
        number = math.nan if isinstance(x, bool) or not isinstance(x, Real) else float(x)
    except OverflowError:
        number = math.inf
    if not minimum <= number < below:
        end = "" if below == math.inf else f" and below {below:g}"
        raise InputError(place, describe(x), f"a number of at least {minimum:g}{end}")
    return number


def check_count(place: str, x: Any) -> int:
    """The number x as an int. Raises InputError unless it is a positive integer that torch can count to."""
    if isinstance(x, bool) or not isinstance(x, Integral) or not 0 < int(x) < 2**63:
        raise InputError(place, describe(x), "a positive integer")
    return int(x)


def check_seed(seed: Any) -> int:
    """The seed as an int. Raises InputError unless a torch.Generator takes it for a seed."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) < 2**63:
        raise InputError("seed", describe(seed), "an integer from 0 to 2^63 - 1")
    return int(seed)


def check_generator(generator: Any) -> None:
    """Raises InputError unless it is a torch.Generator."""
    if not isinstance(generator, torch.Generator):
        raise InputError("generator", describe(generator), "a torch.Generator")


def check_dtype(dtype: Any) -> None:
    """Raises InputError unless it is a floating dtype that torch computes with, or None for torch's default."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype in FLOATING):
        raise InputError("dtype", dtype, "a floating dtype such as torch.float64")


def check_autocast() -> None:
    """Raises InputError under torch.autocast, where products have another dtype than their operands."""
    for kind in ("cpu", "cuda", "xpu", "mps"):
        if torch.is_autocast_enabled(kind):
            found = f"{str(torch.get_autocast_dtype(kind)).removeprefix('torch.')} on {kind}"
            needs = (
                f"none, since all is in the dtype of the parameters: cast these, or use autocast('{kind}', enabled=False)"
            )
            raise InputError("torch.autocast", found, needs)


def check_device(device: Any) -> None:
    """Raises InputError unless torch knows it for a device, or it is None."""
    try:
        if device is not None and not isinstance(device, torch.device):
            torch.device(device)
    except (TypeError, RuntimeError, ValueError, OverflowError):
        raise InputError("device", describe(device), 'a torch.device, or the name of one such as "cpu"') from None


def check_flag(place: str, x: Any) -> bool:
    """Raises InputError unless it is True or False."""
    if not isinstance(x, (bool, np.bool_)):
        raise InputError(place, describe(x), "True or False")
    return bool(x)


def check_pair(place: str, result: Any, needs: str) -> None:
    """Raises InputError unless what a function returned is a tuple of two."""
    if not isinstance(result, tuple) or len(result) != 2:
        got = f"a tuple of {len(result)}" if isinstance(result, tuple) else describe(result)
        raise InputError(place, got, needs)


def is_dense(x: Any) -> bool:
    """Whether it is a tensor whose numbers lie in memory one by one: not sparse, nested or quantized."""
    return isinstance(x, Tensor) and x.layout is torch.strided and not x.is_quantized and not x.is_nested


def is_floating(x: Any) -> bool:
    """Whether it is a dense tensor of real numbers that can have a gradient."""
    return is_dense(x) and x.dtype in FLOATING


def check_tensor(place: str, x: Any) -> None:
    """Raises InputError unless x is a dense tensor."""
    if not is_dense(x):
        raise InputError(place, describe(x), "a dense tensor")


def check_same_shape(place: str, x: Tensor, like: Tensor) -> None:
    """Raises InputError unless the shapes are equal: broadcasting would give a wrong number in silence."""
    if not is_dense(x) or x.shape != like.shape:
        raise InputError(place, describe(x), f"shape {tuple(like.shape)}")


def check_value(place: str, value: Any) -> None:
    """Raises InputError unless a loss is a scalar tensor."""
    if not isinstance(value, Tensor) or value.ndim or value.dtype not in FLOATING:
        raise InputError(place, describe(value), "a scalar of shape (), in a floating tensor")


def called(place: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of the user's returns. Raises InputError if it does not take so many arguments."""
    try:
        return function(*arguments)
    except (TypeError, ValueError) as error:
        raise of_call(place, error, len(arguments)) from None


def of_call(place: str, error: Exception, count: int) -> Exception:
    """The error as it is, or an InputError where the call itself failed: then its traceback has no frame of the function."""
    if error.__traceback__ is None or error.__traceback__.tb_next is not None:
        return error
    return InputError(place, error, f"a function of {count} argument{'' if count == 1 else 's'}")
