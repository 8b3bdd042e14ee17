"""Analytic functions in torch: which of its operations may carry a complex step.

An operation on complex numbers is analytic where it has a derivative that does not depend on the direction. Torch has many
that are not, and does not say so: abs, the real part, a conjugate, a norm each give a number, and so a wrong derivative.
Names in the objective's own code tell little, for functions are made of functions. So `OnlyAnalytic` looks at every
operation on its way into the kernels, where composite ones have been taken apart, and lets pass what is listed here.

Those that torch lacks, or computes without care for a tiny imaginary part, are made of others in `continuations`. Functions
that branch on a real part (relu, max, a comparison) are refused, though each is analytic to either side.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from .. import kernels, tree
from ..errors import InputError
from .continuations import OF_NUMBERS
from .continuations_of_layers import OF_LAYERS, WHOLE

# Names of torch.ops.aten: analytic in every argument, and as accurate in the imaginary part as in the real one.
ARITHMETIC = "add sub rsub mul div neg reciprocal addcmul addcdiv lerp sum mean prod cumsum cumprod trace"
FUNCTIONS = "exp exp2 expm1 log log2 log10 log1p logsumexp rsqrt sin cos tan sinh cosh tanh atan asinh atanh"
ALGEBRA = (
    "mm mv bmm dot addmm addmv addbmm baddbmm _linalg_det linalg_cross linalg_inv_ex linalg_matrix_exp _linalg_solve_ex"
)
SHAPE = """_to_copy _unsafe_view alias as_strided cat clone constant_pad_nd copy detach diag_embed diagonal
embedding expand fill flip gather index index_add index_put index_select masked_fill permute repeat roll scatter scatter_add
select select_scatter slice slice_scatter split split_with_sizes squeeze stack
t transpose tril triu unbind unfold unsqueeze view where"""
ANALYTIC = frozenset(f"{ARITHMETIC} {FUNCTIONS} {ALGEBRA} {SHAPE}".split())

CONTINUATIONS = OF_NUMBERS | OF_LAYERS

# Linear with real coefficients, which torch has for real numbers alone: f(a + i b) = f(a) + i f(b).
LINEAR = frozenset(
    """_adaptive_avg_pool2d _adaptive_avg_pool3d avg_pool2d avg_pool3d col2im deg2rad im2col pixel_shuffle pixel_unshuffle
rad2deg reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
upsample_trilinear3d""".split()
)

# These look at no entry, so what they return may be real.
BLIND = frozenset(
    "device empty_like full_like new_empty new_empty_strided new_full new_ones new_zeros ones_like zeros_like".split()
)


class OnlyAnalytic(TorchDispatchMode):
    """Inside this context operations on complex tensors are analytic; where one is not, leaving it raises InputError.

    It acts below every torch.func transform. Real tensors that an operation meets are made complex: those that an
    objective closes over, because matrix products do not mix dtypes.
    """

    refused: str | None = None

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        """Says what was refused, whatever the code inside made of the error: torch takes one in `w == 0` for False."""
        super().__exit__(kind, error, traceback)  # type: ignore[no-untyped-call]  # torch gives it no types
        place = "objective.value(params, batch)"
        if self.refused is not None:
            needs = "analytic operations that torch has for complex numbers; func_grad and finite_difference need neither"
            raise InputError(place, f"{self.refused} of complex numbers", needs) from error
        if isinstance(error, (RuntimeError, TypeError, IndexError)):
            needs = "operations that carry complex numbers, under torch.func.vmap"
            raise InputError(place, str(error).splitlines()[0], needs) from error

    def refuse(self, operation: str) -> RuntimeError:
        """The error to raise."""
        self.refused = self.refused or operation
        return RuntimeError(operation)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operation of torch.ops."""
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        if name in BLIND or not any(map(is_complex, tree.leaves((args, kwargs)))):
            return func(*args, **kwargs)
        if not kernels.is_in_place(func):
            args, kwargs = tree.map(to_complex, (args, kwargs))
        if name in LINEAR:
            return torch.complex(*(func(*tree.map(part, args), **tree.map(part, kwargs)) for part in (real, imaginary)))
        if name in CONTINUATIONS:
            result = CONTINUATIONS[name](*args, **kwargs)
            if result is NotImplemented:
                raise self.refuse(name)
            return result
        if name.removesuffix("_") not in ANALYTIC:
            raise self.refuse(name)
        result = func(*args, **kwargs)
        if "linalg" not in name and not all(map(is_complex, tree.leaves(result))):  # linalg counts its pivots too
            raise self.refuse(f"{name} to other numbers")
        return result


class Whole(TorchFunctionMode):
    """Inside this context functions of complex numbers are seen whole that torch takes apart before a dispatch mode."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one function of torch."""
        kwargs = kwargs or {}
        continued = WHOLE.get(func)
        if continued is None or not any(map(is_complex, tree.leaves((args, kwargs)))):
            return func(*args, **kwargs)
        return continued(*tree.map(to_complex, args), **tree.map(to_complex, kwargs))


def is_complex(x: Any) -> bool:
    """Whether it is a complex tensor."""
    return isinstance(x, Tensor) and x.is_complex()


def real(x: Any) -> Any:
    """The real part of a complex tensor; anything else as it is."""
    return x.real if is_complex(x) else x


def imaginary(x: Any) -> Any:
    """The imaginary part of a complex tensor; anything else as it is."""
    return x.imag if is_complex(x) else x


def to_complex(x: Any) -> Any:
    """A floating tensor as a complex one, of the one precision in which all is done; anything else as it is."""
    return x.to(torch.complex128) if isinstance(x, Tensor) and x.is_floating_point() else x
