"""Laws: every optional rule of a layer is a claim with a definition, and here each is held against it.

    rowwise       f(params, x[n:n+1]) = f(params, x)[n]
    moves         y moved as claimed = f(params + h e, x), entry by entry e and for steps h that are not small
    carry         y moved as claimed = f(params, x moved in one feature), whether or not the rest of x is scaled
    summands      the n-th is the parameter gradient of sample n alone, their total that of all samples
    inputs        row n is the input gradient of sample n alone
    whole         the totals of the summands, and the inputs

Finite differences believe the first three, per-sample gradients and training the others. Who claims what is not so gets
numbers that are wrong in silence, unless a test of his runs `laws`. Whether the pullback is that of the forward rule is
another question: that is `check_vjp`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .. import tree
from ..causes import Cause
from ..errors import InputError, check_autocast, check_seed, describe
from ..operands import check_params, check_samples
from ..report import Finding, Report, at, relative_error, worst_index
from ..types import Layer, Params, Residuals
from .columns import Column
from .factors import totals
from .pullbacks import gradient, ran, relisted

ROUNDINGS = 1000  # of the dtype: claims are equalities, and only rounding may stand between their sides
LOOKED_AT = 64  # entries of a leaf, or features, at most

Claim = tuple[str, Callable[[], Iterator[tuple[str, Tensor, Tensor]]]]  # name, and (what is compared, claimed, defined)


def laws(layer: Layer, params: Params, x: Tensor, *, seed: int = 0) -> Report:
    """Checks every optional rule of a layer, and of the layers in it, against its definition at (params, x).

    The report has a row for each claim, such as `forward.moves['w']`, or `forward[2].carry` for the third layer in series;
    it is true where all claims hold. A layer of three plain functions claims nothing.

    Args:
        layer: The layer.
        params: Its parameters.
        x: Inputs with a leading axis N of two at least.
        seed: Of the entries, steps and cotangents that are tried.

    Raises:
        InputError: layer is no Layer; whatever its own rules refuse.
    """
    if not isinstance(layer, Layer):
        raise InputError("layer", describe(layer), "a Layer, such as dense(4, 3)")
    check_autocast()
    check_params(params)
    check_samples(x, "x")
    if len(x) < 2:
        raise InputError("x", describe(x), "two samples at least, or nothing tells one from the batch")
    generator = torch.Generator().manual_seed(check_seed(seed))
    y, residuals = ran(layer.forward, params, x)  # by the door: beyond it the rules trust their operands
    claims = _of_layer("", layer.forward, params, x, layer.backward, residuals, _like(y, generator), generator)
    findings = {name: finding for title, claim in claims for name, finding in _judged(title, claim)}
    return Report(findings, remarks=() if findings else ("The layer claims nothing.",))


def _judged(title: str, claim: Callable[[], Iterator[tuple[str, Tensor, Tensor]]]) -> Iterator[tuple[str, Finding]]:
    try:
        for suffix, claimed, defined in claim():
            yield title + suffix, _compared(claimed, defined)
    except Exception as error:  # whatever a claim raises is what is wrong with it
        yield (
            title,
            Finding("wrong", float("inf"), cause=Cause.RAISES, diagnosis=f"it raises {type(error).__name__}: {error}"),
        )


def _compared(claimed: Tensor, defined: Tensor) -> Finding:
    allowed = ROUNDINGS * torch.finfo(defined.dtype).eps
    if claimed.shape != defined.shape:
        sentence = f"the claim has shape {tuple(claimed.shape)}, its definition {tuple(defined.shape)}"
        return Finding("wrong", float("inf"), allowed, cause=Cause.SHAPE, diagnosis=sentence)
    error = relative_error(claimed.double(), defined.double())
    if error <= allowed:
        return Finding("ok", error, allowed)
    worst = worst_index(claimed, defined)
    sentence = f"at {at(worst)} the claim gives {claimed[worst]:.9g} and its definition {defined[worst]:.9g}"
    return Finding("wrong", error, allowed, worst, cause=Cause.CLAIM, diagnosis=sentence)


def _of_layer(
    place: str,
    forward: Any,
    params: Params,
    x: Tensor,
    backward: Any,
    kept: Residuals,
    dy: Tensor,
    generator: torch.Generator,
) -> Iterator[Claim]:
    """The claims of a layer, or of the layers in it, each handed what it has in the batch: another may mix samples."""
    if not hasattr(forward, "through"):
        yield from _of_forward(f"forward{place}", forward, params, x, generator)
        yield from _of_backward(f"backward{place}", backward, kept, dy, forward, params, x)
        return
    ahead: list[Any] = []
    back: list[Any] = []

    def run(inner: Any, own: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        ahead.append((inner, own, x))
        return ran(inner, own, x)

    def pull(inner: Any, kept: Residuals, dy: Tensor, dx: bool) -> tuple[Params, Any]:
        back.insert(0, (inner, relisted(kept), dy))
        return gradient(inner, kept, dy, dx)

    forward.through(run, params, x)
    if hasattr(backward, "through"):
        backward.through(pull, kept, dy, True)
    for index, (inner, own, x) in enumerate(ahead):
        pullback, kept, dy = back[index] if back else (None, (), dy)
        yield from _of_layer(f"{place}[{index}]", inner, own, x, pullback, kept, dy, generator)


def _of_forward(root: str, forward: Any, params: Params, x: Tensor, generator: torch.Generator) -> Iterator[Claim]:
    def f(params: Params, x: Tensor) -> Tensor:
        return ran(forward, params, x)[0]

    def rowwise() -> Iterator[tuple[str, Tensor, Tensor]]:
        yield "", f(params, x), torch.cat([f(params, x[n : n + 1]) for n in range(len(x))])

    def moves() -> Iterator[tuple[str, Tensor, Tensor]]:
        leaves, unflatten = tree.flatten(params)
        found = tree.leaves(tree.arranged(forward.moves(params, x), params))
        for position, (path, move, leaf) in enumerate(zip(tree.paths(params, ""), found, leaves, strict=True)):
            if move is None:
                continue
            entries, h = _some(leaf.numel(), generator).to(leaf.device), _like(leaf.flatten(), generator)

            def moved(entry: Tensor, position: int = position, leaf: Tensor = leaf, h: Tensor = h) -> Tensor:
                other = leaf.flatten().clone()
                other[entry] += h[entry]
                return f(unflatten([*leaves[:position], other.reshape(leaf.shape), *leaves[position + 1 :]]), x)

            yield path, move(entries, h[entries]).copies(f(params, x)), torch.stack([moved(entry) for entry in entries])

    def carry() -> Iterator[tuple[str, Tensor, Tensor]]:
        y = f(params, x)
        for axis in {axis % x.ndim: axis for axis in getattr(forward, "axes", (-1,))}.values():
            index = _some(x.shape[axis], generator).to(x.device)
            change = _like(x.select(axis, 0).expand(len(index), *x.select(axis, 0).shape), generator)
            for column in (Column(index, change, axis=axis), Column(index, change, 1 + 0.25 * change.sin(), axis)):
                spread = forward.carry(params, x, y)(column)
                written_out = spread.copies(y) if isinstance(spread, Column) else spread
                words = (" of a scaled column" if column.scale is not None else "") + (
                    " of channels" if axis == 1 < x.ndim - 1 else ""
                )
                yield words, written_out, _each(f, params, column.copies(x))

    for name, claim in (("rowwise", rowwise), ("moves", moves), ("carry", carry)):
        if getattr(forward, name, None):
            yield f"{root}.{name}", claim


def _of_backward(
    root: str, backward: Any, kept: Residuals, dy: Tensor, forward: Any, params: Params, x: Tensor
) -> Iterator[Claim]:
    def by_parts(kept: Residuals, dy: Tensor) -> tuple[Params, Any]:
        return totals(backward.summands(kept, dy)), backward.inputs(kept, dy)

    def alone(n: int) -> tuple[Params, Any]:
        return by_parts(ran(forward, params, x[n : n + 1])[1], dy[n : n + 1])

    def summands() -> Iterator[tuple[str, Tensor, Tensor]]:
        found, each = backward.summands(kept, dy), [alone(n)[0] for n in range(len(x))]
        stacked = tree.map(lambda *leaves: torch.stack(leaves), *each)
        for path, summand, rows in zip(tree.paths(stacked, ""), tree.leaves(found), tree.leaves(stacked), strict=True):
            yield path, summand.each(), rows
            yield f"{path}, their total", summand.total(), rows.sum(0)

    def inputs() -> Iterator[tuple[str, Tensor, Tensor]]:
        if x.is_floating_point():
            yield "", backward.inputs(kept, dy), torch.cat([alone(n)[1] for n in range(len(x))])

    def whole() -> Iterator[tuple[str, Tensor, Tensor]]:
        both = by_parts(kept, dy)
        for words, claimed, defined in (
            ("", backward.whole(kept, dy, True), both),
            (" without dx", backward.whole(kept, dy, False)[0], both[0]),
        ):
            for path, *pair in zip(tree.paths(defined, ""), tree.leaves(claimed), tree.leaves(defined), strict=True):
                yield words + path, *pair

    for name, claim in (("summands", summands), ("inputs", inputs), ("whole", whole)):
        if getattr(backward, name, None):
            yield f"{root}.{name}", claim


def _each(f: Callable[[Params, Tensor], Tensor], params: Params, copies: Tensor) -> Tensor:
    return torch.stack([f(params, copy) for copy in copies])


def _some(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator, device="cpu")[:LOOKED_AT]


def _like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of the shape and the dtype of x."""
    return torch.randn(x.shape, generator=generator, dtype=torch.float64, device="cpu").to(x)
