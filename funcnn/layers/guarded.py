"""The public door of a layer: operands that do not fit are refused here, so that the rules inside are mathematics alone.

What a layer takes and gives is known as its `Operands`. Where those of layers in series fit together, one look at the door
of the network serves for all of them, and inside the bare rules run: a door costs more than the rule of a small layer.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import optree
import torch
from torch import Tensor

from .. import kernels
from ..errors import COMPLEX, FLOATING, InputError, check_autocast, describe, is_dense
from ..operands import OTHER, SHAPE
from ..refusals import refused_by_torch
from ..types import Layer, Params, Residuals, Tree, name
from .columns import Forward
from .factors import ByParts

KIND = attrgetter("dtype", "device", "layout")


def are_numbers(dtypes: set[torch.dtype]) -> bool:
    """Whether they are floating, or complex within a complex step, where torch's own operations are continued."""
    return FLOATING.issuperset(dtypes) or (COMPLEX.issuperset(dtypes) and kernels.under_transform())


class Operands(NamedTuple):
    """What a layer takes and gives.

    spec, sizes   the tree of its parameters, and their sizes in its order
    axes, words   how many axes x has at least, and its shape in words
    x, y          the sizes of the last axes; None is any for x, and that of x for y
    fits          raises where x does not fit in another way, or None
    tokens        whether x is of integers, at which `fits` alone looks
    place         the layer that looks at x, as a message says it
    """

    spec: Any
    sizes: list[torch.Size]
    axes: int
    words: str
    x: int | None
    y: int | None
    fits: Callable[[Tensor], None] | None = None
    tokens: bool = False
    place: str = "params"

    def check(self, params: Params, x: Tensor) -> None:
        """Raises InputError unless the operands are these: torch takes others, some on two devices too, for numbers."""
        try:
            leaves, size = self.spec.flatten_up_to(params), x.shape
            kinds = set(map(KIND, leaves if self.tokens else [*leaves, x]))
            dtype, _, layout = next(iter(kinds))
            fit = list(map(SHAPE, leaves)) == self.sizes and len(kinds) == 1 and are_numbers({dtype})
            fit = fit and layout is torch.strided
            fit = fit and (self.tokens or (len(size) >= self.axes and (self.x is None or size[-1] == self.x)))
        except (*OTHER, AttributeError, RuntimeError):  # another tree, no tensor, or a nested one, which has no shape
            fit = False
        if not fit:
            self._refuse(params, x)
        if self.fits is not None:
            self.fits(x)
        if self.tokens and leaves and x.device != leaves[0].device:
            raise InputError(
                f"inputs of {self.place}", f"tokens on {x.device}", f"some on {leaves[0].device}, as the parameters"
            )

    def _refuse(self, params: Params, x: Tensor) -> None:
        """Raises InputError, naming the first operand that does not fit."""
        _check_structure("params", params, self.spec)
        leaves, paths = self.spec.flatten_up_to(params), [path.codify("params") for path in self.spec.accessors()]
        for path, leaf, size in zip(paths, leaves, self.sizes, strict=True):
            if not is_dense(leaf) or leaf.shape != size or not are_numbers({leaf.dtype}):
                raise InputError(path, describe(leaf), f"shape {tuple(size)}, a floating tensor")
        place = f"inputs of {self.place}"
        if self.tokens:
            return
        if not is_dense(x) or (not are_numbers({x.dtype}) and not leaves):
            raise InputError(place, describe(x), "a floating tensor")
        if x.ndim < self.axes or (self.x is not None and x.shape[-1] != self.x):
            raise InputError(place, describe(x), f"shape ({self.words})")
        for path, leaf in [*zip(paths[1:], leaves[1:], strict=True), (place, x)] if leaves else []:
            if (leaf.dtype, leaf.device) != (leaves[0].dtype, leaves[0].device):
                check_autocast()
                needs = f"{leaves[0].dtype} on {leaves[0].device}, as {paths[0]}"
                raise InputError(path, f"{leaf.dtype} on {leaf.device}", needs)


def in_series(each: list[Operands | None]) -> Operands | None:
    """The operands of layers in series, where all say what they take and every one takes what the last one gives."""
    known = [one for one in each if one is not None]
    if len(known) < len(each) or any(one.fits is not None for one in known):
        return None
    looks: Operands | None = None  # the first that wants a size
    y: int | None = None
    for index, one in enumerate(known):
        if one.x is not None and looks is None and y is None:
            looks = one._replace(place=one.place.replace("params", f"params[{index}]", 1))
        elif one.x is not None and one.x != y:
            return None
        y = one.y if one.y is not None else one.x if one.x is not None else y
    spec = optree.treespec_tuple([one.spec for one in known], none_is_leaf=True)
    first = looks or known[0]._replace(place=known[0].place.replace("params", "params[0]", 1))
    return first._replace(spec=spec, sizes=[size for one in known for size in one.sizes], y=y)


class Guard(NamedTuple):
    """A rule behind its door; that of a forward rule knows its operands."""

    rule: Callable[..., Any]
    check: Callable[..., None]
    operands: Operands | None = None
    title: str = ""

    def __call__(self, first: Tree, second: Tensor, *more: Any) -> Any:
        """The rule, of operands that were looked at."""
        self.check(first, second)
        try:
            return self.rule(first, second, *more)
        except RuntimeError as error:
            raise refused_by_torch(f"operands of {self!r}", error) or error from None

    def __repr__(self) -> str:
        """What the layer prints as."""
        return self.title or name(self.rule)


def guarded(
    layer: Layer,
    title: str,
    *,
    params: dict[str, str] | tuple[()] = (),
    x: str = "...",
    y: str = "...",
    like: Callable[[Residuals], Tensor],
    shape: Callable[[Residuals], tuple[int, ...]] | None = None,
    fits: Callable[[Tensor], None] | None = None,
    tokens: bool = False,
    **sizes: int,
) -> Layer:
    """The same layer behind checks of its operands, under a title to print.

    Args:
        layer: The bare rules: a Forward, and ByParts or, of a layer that mixes samples, a plain function.
        title: What it prints as, such as "dense(64, 32)".
        params: The axes of each parameter by name, such as {"w": "D H"}; () for none.
        x: The axes of the inputs, such as "N ... D", ... being any number of axes.
        y: Those of the outputs, where they differ from x in the last one at most.
        like: A residual of the dtype and the device of y, and of its shape, but for the last axis.
        shape: The shape of y by the residuals, where it is another.
        fits: Raises InputError, on "inputs of {title}", where x does not fit in a way that its axes cannot say.
        tokens: Whether x is of integers, at which `fits` alone looks.
        sizes: The sizes of the axes, such as D=64; what has none may have any size.

    Raises (when the layer is called):
        InputError: parameters of other names, shapes, dtypes or devices; x or dy of another shape, dtype or device.
    """
    own = {key: torch.Size([sizes[axis] for axis in axes.split()]) for key, axes in dict(params).items()}
    of_params: list[Any]
    of_params, spec = optree.tree_flatten(own or (), none_is_leaf=True)  # type: ignore[arg-type]
    axes, words = x.split(), ", ".join(str(sizes.get(axis, axis)) for axis in x.split())
    least = len(axes) - ("..." in axes)
    operands = Operands(spec, of_params, least, words, sizes.get(axes[-1]), sizes.get(y.split()[-1]), fits, tokens)

    def check_dy(residuals: Residuals, dy: Tensor) -> None:
        kept = like(residuals)
        size: tuple[int, ...] = kept.shape if operands.y is None else kept.shape[:-1] + (operands.y,)
        size = size if shape is None else shape(residuals)
        if not is_dense(dy) or dy.shape != size:
            raise InputError("dy", describe(dy), f"shape {tuple(size)}, a floating tensor")
        if dy.dtype != kept.dtype or dy.device != kept.device:
            check_autocast()
            raise InputError("dy", f"{dy.dtype} on {dy.device}", f"{kept.dtype} on {kept.device}, as y")

    forward: Any = layer.forward
    backward: Any = layer.backward
    return Layer(
        layer.init,
        forward._replace(run=Guard(forward.run, operands.check, operands), title=title),
        _parted(backward, lambda part: Guard(part, check_dy))._replace(title=title)
        if isinstance(backward, ByParts)
        else Guard(backward, check_dy, title=title),
    )


def operands_of(forward: Any) -> Operands | None:
    """What a forward rule takes and gives, if it says so."""
    found: Operands | None = getattr(forward, "operands", None)
    return forward.run.operands if isinstance(forward, Forward) and isinstance(forward.run, Guard) else found


def bare(rule: Any) -> Any:
    """A forward rule or a pullback without its door."""
    if isinstance(rule, Forward):
        return rule._replace(run=bare(rule.run))
    if isinstance(rule, ByParts):
        return _parted(rule, bare)
    return rule.rule if isinstance(rule, Guard) else rule


def _parted(rule: ByParts, change: Callable[[Any], Any]) -> ByParts:
    """The same pullback with each of its parts changed."""
    whole = None if rule.whole is None else change(rule.whole)
    return rule._replace(summands=change(rule.summands), inputs=change(rule.inputs), whole=whole)


def _check_structure(place: str, tree: Any, spec: Any) -> None:
    """Raises InputError where the tree is not that of the spec, naming the first container that differs."""
    if spec.is_leaf():
        return
    entries, children = spec.entries(), spec.children()
    if spec.type is dict and (not isinstance(tree, dict) or tree.keys() != set(entries)):
        found = sorted(tree, key=str) if isinstance(tree, dict) else describe(tree)
        raise InputError(place, found, f"a dict with the keys {sorted(entries)}")
    if spec.type is tuple and (not isinstance(tree, tuple) or len(tree) != len(entries)):
        needs = f"a tuple of {len(entries)}, one entry per layer" if entries else "(), for this layer has no parameters"
        raise InputError(place, f"a tuple of {len(tree)}" if isinstance(tree, tuple) else describe(tree), needs)
    for entry, child in zip(entries, children, strict=True):
        _check_structure(f"{place}[{entry!r}]", tree[entry], child)
