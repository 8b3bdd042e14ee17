"""A formula read: its values, their adjoints, and what a change anywhere in the backward pass does to the gradient of x.

Of a recorded forward pass, an edge leads from a value v to a node that is given it. The right rule hands down along every
edge e a cotangent e', and to x the sum over all paths. A mistake at one edge hands down another, and since all before is
linear, the gradient becomes

    g = r + J^T (mistaken e' - e'),        J = dv/dx
"""

import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..evidence import Evidence
from .tape import MOST_ENTRIES, Node, TooMuchError, filled, record, refs, run
from .words import Words

CLOSE = 1e-5  # of |g - r|, what a prediction may leave: reading is exact, and many predictions are tried
ROUNDED = 1e-12  # of |g|, what rounding may leave


class Edge(NamedTuple):
    """Node `node` is given a value in this slot; `down` is what the right rule hands down there, `up` what it is handed."""

    node: int
    slot: int
    source: int
    down: Tensor
    up: Tensor


class Named(NamedTuple):
    """A tensor, and how it is called."""

    name: str
    value: Tensor


class Reading:
    """The record of a formula at its point, with the derivatives of the record with respect to the leaf in question."""

    def __init__(self, e: Evidence) -> None:
        """Records the forward pass once. Raises TooMuchError where it cannot be read, or says something else than r."""
        if e.formula is None or e.g.shape != e.r.shape or any(x.numel() > MOST_ENTRIES for x in e.formula.leaves):
            raise TooMuchError
        self.formula = formula = e.formula
        self.tape = record(formula.f, formula.leaves)
        self.words = Words(self.tape, formula.names)
        self.x = formula.leaves[formula.position].detach().clone().requires_grad_()
        self.still: set[int] = set()
        self._run()
        self._still()
        self.r = self.pull_outputs(formula.u)
        self.g = formula.pull([leaf.clone() for leaf in formula.leaves], [u.clone() for u in formula.u], None)[
            formula.position
        ]
        if not e.fits(e.g + self.r - e.r) or not e.fits(self.g) or not self.g.isfinite().all():
            raise TooMuchError
        self.error = self.g - self.r
        size = self.error.abs()
        self.evidence = int((size > 1e-3 * size.max()).sum())

    def _run(self) -> None:
        leaves = [x.detach() for x in self.formula.leaves]
        leaves[self.formula.position] = self.x
        self.live: dict[int, Tensor] = dict(enumerate(self.tape.values)) | dict(enumerate(leaves))
        self.taken: dict[tuple[int, int], Tensor] = {}

        def also(n: int, slot: int, value: Tensor) -> Tensor:
            if refs(self.tape.nodes[n])[slot] in self.still:
                return value.detach()
            if value.requires_grad and value.is_floating_point():
                value = self.taken[n, slot] = value.view_as(value)
            return value

        with torch.enable_grad():
            for n, node in enumerate(self.tape.nodes):
                run(node, n, self.live, also)

    def _still(self) -> None:
        """Makes constants of values that change nothing, such as the maximum subtracted in a softmax: no rule follows them."""
        largest = max((edge.down.norm() for edge in self.edges), default=torch.zeros(()))
        for index, whole in self.adjoint.items():
            if index >= self.tape.leaves and whole.norm() <= 1e-12 * largest:
                self.still.add(index)
        if self.still:
            self._run()
        del self.edges

    def value(self, index: int) -> Tensor:
        """A value as it was recorded."""
        return self.live[index].detach()

    def pull_outputs(self, u: Sequence[Tensor]) -> Tensor:
        """The right rule's gradient of the leaf for other cotangents."""
        y = [(self.live[i], each) for i, each in zip(self.tape.outputs, u, strict=True) if self.live[i].requires_grad]
        return self._grad([v for v, _ in y], [self.x], [w for _, w in y])[0]

    def pull(self, index: int, cotangent: Tensor) -> Tensor:
        """J^T of a cotangent of a value."""
        if self.live[index] is self.x:
            return cotangent
        return self._grad([self.live[index]], [self.x], [cotangent])[0]

    def _grad(self, y: Any, x: Any, u: Any) -> list[Tensor]:
        if not y:
            return [torch.zeros_like(each) for each in x]
        return list(torch.autograd.grad(y, x, u, retain_graph=True, materialize_grads=True))

    @cached_property
    def edges(self) -> list[Edge]:
        """Those along which anything is handed down, in the order of the forward pass."""
        y = [(self.live[i], each) for i, each in zip(self.tape.outputs, self.formula.u, strict=True)]
        y = [(v, w) for v, w in y if v.requires_grad]
        made = [i for i, v in self.live.items() if v.requires_grad]
        keys = list(self.taken)
        grads = self._grad(
            [v for v, _ in y], [*(self.taken[k] for k in keys), *(self.live[i] for i in made)], [w for _, w in y]
        )
        self.adjoint = dict(zip(made, grads[len(keys) :], strict=True))
        found = []
        for (n, slot), down in zip(keys, grads, strict=False):
            node = self.tape.nodes[n]
            up = next((self.adjoint[i] for i in node.outs if i in self.adjoint), None)
            if up is not None and down.any():
                found.append(Edge(n, slot, refs(node)[slot], down, up))
        return found

    @cached_property
    def tangents(self) -> dict[int, Tensor]:
        """J w of every value, for a random direction w of the leaf: <w, J^T d> = <J w, d> tells a wrong d at once."""
        generator = torch.Generator().manual_seed(0)
        self.direction = torch.randn(self.x.shape, generator=generator, dtype=torch.float64).to(self.x)
        made: dict[int, Tensor] = dict(enumerate(self.tape.values)) | dict(enumerate(x.detach() for x in self.formula.leaves))
        with warnings.catch_warnings(), forward_ad.dual_level():
            warnings.simplefilter("ignore")
            made[self.formula.position] = forward_ad.make_dual(self.x.detach(), self.direction)
            for n, node in enumerate(self.tape.nodes):
                run(node, n, made)
            tangents = {i: forward_ad.unpack_dual(v).tangent for i, v in made.items() if v.is_floating_point()}
        return {i: tangent for i, tangent in tangents.items() if tangent is not None}

    def hints(self, index: int, change: Tensor) -> bool:
        """Whether a change of what is handed down to a value may explain the error: in one direction it does."""
        if index not in self.tangents:
            return False
        along, left = (self.direction * self.error).sum(), (self.tangents[index] * change).sum()
        return bool((along - left).abs() <= 1e-4 * self.direction.norm() * self.error.norm())

    @cached_property
    def paths(self) -> list[Tensor]:
        """What each edge adds to the gradient."""
        return [self.pull(edge.source, edge.down) for edge in self.edges]

    def local(self, edge: Edge, others: dict[int, Tensor], up: Tensor | None = None) -> Tensor | None:
        """What its node hands down along an edge where it is given others in some slots, or None if it cannot."""
        node, slot = self.tape.nodes[edge.node], -1
        own: Tensor | None = None

        def given(ref: Any) -> Tensor:
            nonlocal slot, own
            slot += 1
            x = others.get(slot, self.live[ref.index]).detach()
            if slot == edge.slot:
                own = x = x.clone().requires_grad_()
            return x

        try:
            with torch.enable_grad():
                args, kwargs = filled((node.args, node.kwargs), given)
                y = node.op(*args, **kwargs)
            y = next(z for z in (y if isinstance(y, (tuple, list)) else [y]) if isinstance(z, Tensor) and z.requires_grad)
            return torch.autograd.grad(y, own, edge.up if up is None else up, materialize_grads=True)[0]
        except (RuntimeError, ValueError, TypeError, IndexError, StopIteration):
            return None

    def node(self, edge: Edge) -> Node:
        """The node that an edge leads to."""
        return self.tape.nodes[edge.node]

    @cached_property
    def pool(self) -> list[Named]:
        """Everything that has a name: the leaves, the outputs, the values between, each number once."""
        order = [*range(self.tape.leaves), *self.tape.outputs, *sorted(self.live)]
        found: list[Named] = []
        for index in dict.fromkeys(order):
            value = self.value(index)
            if not value.is_floating_point() or not value.isfinite().all():
                continue
            if not any(other.value.shape == value.shape and torch.equal(other.value, value) for other in found):
                found.append(Named(self.words.phrase(index), value))
        return found

    def alike(self, shape: torch.Size) -> list[Named]:
        """Those of the pool that have this shape."""
        return [each for each in self.pool if each.value.shape == shape]

    def explains(self, p: Tensor, spare: int = 0) -> bool:
        """Whether a prediction is g, where `spare` numbers of it were fitted and enough entries are left to tell."""
        left = (self.g - p).norm()
        return bool(
            self.evidence >= 3 + spare
            and left <= max(CLOSE * self.error.norm(), ROUNDED * self.g.norm())
            and left <= 1e-2 * self.error.norm()
        )

    def mistaken(self, edge: Edge, down: Tensor | None) -> bool:
        """Whether g is what comes out where this is handed down along an edge."""
        if down is None or down.shape != edge.down.shape or not down.isfinite().all():
            return False
        change = down - edge.down
        return self.hints(edge.source, change) and self.explains(self.r + self.pull(edge.source, change))


_readings: WeakKeyDictionary[Evidence, Reading | None] = WeakKeyDictionary()


def reading(e: Evidence) -> Reading | None:
    """The formula of the evidence, read once, or None where it cannot be."""
    if e not in _readings:
        try:
            with torch.inference_mode(False):
                _readings[e] = Reading(e)
        except (TooMuchError, RuntimeError, ValueError, TypeError, NotImplementedError, StopIteration):
            _readings[e] = None
    return _readings[e]


def read(e: Evidence) -> Iterator[Reading]:
    """The reading, if there is one to speak of."""
    found = reading(e)
    if found is not None and found.evidence >= 3:
        yield found
