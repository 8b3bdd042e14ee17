"""A formula read: its values, their adjoints, and what a change anywhere in the backward pass does to the gradient of x.

Of a recorded forward pass, an edge leads from a value v to a node that is given it. The right rule hands down along every
edge e a cotangent e', and to x the sum over all paths. A mistake at one edge hands down another, and since all before is
linear, the gradient becomes

    g = r + J^T (mistaken e' - e'),        J = dv/dx
"""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..evidence import Evidence
from ..sparse import dense
from ..tape import Node, UnreadableError, filled, record, run
from .words import Words

CLOSE = 1e-5  # of |g - r| and of |g|, what a prediction may leave: reading is exact, and many predictions are tried
ROUNDED = 1e-12  # of |g| or |r|, what rounding may leave
PROBES = 2
SEEN = 1e-4  # of |w| |g - r|, how far <w, g> may be off before all of it is looked at
MOST_NODES, MOST_ENTRIES = 300, 10**5  # operations of a formula, and entries of a value, that are read
MOST_ALIKE = 24  # values of one shape that are tried in each other's place
MOST_HITS = 8


class Edge(NamedTuple):
    """Node `node` is given a value in this slot; `down` is what the right rule hands down there, `up` what it is handed."""

    node: int
    slot: int
    source: int
    down: Tensor
    up: Tensor


class Reading:
    """The record of a formula at its point, with the derivatives of the record with respect to the leaf in question."""

    def __init__(self, e: Evidence) -> None:
        """Records the forward pass once. Raises UnreadableError where it cannot be read, or says something else than r."""
        if e.formula is None or e.g.shape != e.r.shape or any(x.numel() > MOST_ENTRIES for x in e.formula.leaves):
            raise UnreadableError
        self.formula = formula = e.formula
        self.tape = record(formula.f, formula.leaves)
        if len(self.tape.nodes) > MOST_NODES or any(value.numel() > MOST_ENTRIES for value in self.tape.values):
            raise UnreadableError
        self.words = Words(self.tape, formula.names)
        self.x = formula.leaves[formula.position].detach().clone().requires_grad_()
        self.still: set[int] = set()
        self._run()
        self._still()
        self.r = self.pull_outputs(formula.u)
        pulled = formula.pull([leaf.clone() for leaf in formula.leaves], [u.clone() for u in formula.u], None)
        self.g = pulled[formula.position]
        if not e.fits(e.g + self.r - e.r) or not e.fits(self.g) or not self.g.isfinite().all():
            raise UnreadableError
        self.error = self.g - self.r
        size = self.error.abs()
        self.evidence = int((size > 1e-3 * size.max()).sum())

    def _run(self) -> None:
        leaves = [x.detach() for x in self.formula.leaves]
        leaves[self.formula.position] = self.x
        self.live: dict[int, Tensor] = dict(enumerate(self.tape.values)) | dict(enumerate(leaves))
        self.taken: dict[tuple[int, int], Tensor] = {}

        def also(n: int, slot: int, value: Tensor) -> Tensor:
            if self.tape.nodes[n].given[slot] in self.still:
                return value.detach()
            if value.requires_grad and value.is_floating_point():
                value = self.taken[n, slot] = value.view_as(value)
            return value

        with torch.enable_grad():
            for n, node in enumerate(self.tape.nodes):
                run(node, n, self.live, also)

    def _still(self) -> None:
        """Makes constants of values that change nothing, such as the maximum that softmax subtracts."""
        largest = max((edge.down.norm() for edge in self.edges), default=torch.zeros((), device="cpu"))
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
        return [dense(g) for g in torch.autograd.grad(y, x, u, retain_graph=True, materialize_grads=True)]

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
                found.append(Edge(n, slot, node.given[slot], down, up))
        return found

    @cached_property
    def tangents(self) -> dict[int, Tensor]:
        """J w of every value, (entries, PROBES), for random directions w: <w, J^T d> = <J w, d> tells a wrong d at once."""
        generator = torch.Generator().manual_seed(0)
        self.directions = [
            torch.randn(self.x.shape, generator=generator, dtype=torch.float64, device="cpu") for _ in range(PROBES)
        ]
        made = [i for i, value in self.live.items() if value.requires_grad]
        with torch.enable_grad():  # G = sum over values of J^T z, and <w, G> has the derivative J w with respect to z
            z = [torch.zeros_like(self.live[i]).requires_grad_() for i in made]
            (total,) = torch.autograd.grad([self.live[i] for i in made], self.x, z, create_graph=True)
        grads = [
            torch.autograd.grad(total, z, w.to(self.x), retain_graph=True, materialize_grads=True) for w in self.directions
        ]
        return {
            i: torch.stack([t.flatten() for t in each], 1) for i, each in zip(made, zip(*grads, strict=True), strict=True)
        }

    @cached_property
    def target(self) -> Tensor:
        """<w, g - r> for these directions, in units of |w| |g - r|."""
        return self.scaled(torch.stack([(w.to(self.error) * self.error).sum() for w in self.directions]))

    def scaled(self, products: Tensor) -> Tensor:
        """Products with the directions, (..., PROBES), in these units."""
        found: Tensor = products / self._units
        return found

    @cached_property
    def _units(self) -> Tensor:
        sizes = torch.stack([w.norm() for w in self.directions]).to(self.error)
        return sizes.mul(self.error.norm())

    def probed(self, index: int, cotangents: Tensor) -> Tensor:
        """The gradient that each of some cotangents (K, ...) of a value adds, seen in these directions, (K, PROBES)."""
        return self.scaled(cotangents.reshape(len(cotangents), -1) @ self.tangents[index])

    @cached_property
    def own(self) -> list[Tensor]:
        """What each edge adds to the gradient, seen in these directions."""
        return [self.probed(edge.source, edge.down[None])[0] for edge in self.edges]

    def local(self, edge: Edge, others: dict[int, Tensor], up: Tensor | None = None) -> Tensor | None:
        """What its node hands down along an edge where it is given others in some slots, or None if it cannot.

        Where it works entry by entry, the others may be stacked.
        """
        node, slot = self.tape.nodes[edge.node], -1
        own = edge.down

        def given(ref: Any) -> Tensor:
            nonlocal slot, own
            slot += 1
            x = others.get(slot, self.live[ref.number]).detach()
            if slot == edge.slot:
                own = x = x.expand(shape if node.pointwise else x.shape).clone().requires_grad_()
            return x

        shape = max((x.shape for x in others.values()), key=len, default=edge.down.shape)
        shape = shape if len(shape) > edge.down.ndim else edge.down.shape

        try:
            with torch.enable_grad():
                args, kwargs = filled((node.args, node.kwargs), given)
                y = node.op(*args, **kwargs)
            y = next(z for z in (y if isinstance(y, (tuple, list)) else [y]) if isinstance(z, Tensor) and z.requires_grad)
            (grad,) = torch.autograd.grad(y, own, (edge.up if up is None else up).expand_as(y), materialize_grads=True)
            pulled: Tensor = dense(grad)
            return pulled
        except (RuntimeError, ValueError, TypeError, IndexError, StopIteration):
            return None

    def node(self, edge: Edge) -> Node:
        """The node that an edge leads to."""
        return self.tape.nodes[edge.node]

    @cached_property
    def pool(self) -> dict[torch.Size, tuple[list[int], Tensor]]:
        """Everything that has a name: the leaves, the outputs, the values between, by shape: which, and all stacked."""
        order = [*range(self.tape.leaves), *self.tape.outputs, *sorted(self.live)]
        found: dict[torch.Size, dict[float, int]] = {}
        for index in dict.fromkeys(order):
            value = self.value(index)
            if value.is_floating_point() and value.ndim:
                key = torch.dot(value.flatten(), self._weights[: value.numel()]).item()  # equal numbers have equal keys
                if math.isfinite(key) and len(found.setdefault(value.shape, {})) < MOST_ALIKE:
                    found[value.shape].setdefault(key, index)
        return {
            shape: (list(each.values()), torch.stack([self.value(i) for i in each.values()]))
            for shape, each in found.items()
        }

    @cached_property
    def _weights(self) -> Tensor:
        longest = max(value.numel() for value in self.live.values())
        drawn = torch.rand(longest, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
        return drawn.to(self.x.device)

    def alike(self, shape: torch.Size) -> tuple[list[int], Tensor]:
        """Those of the pool that have this shape."""
        return self.pool.get(shape, ([], torch.zeros((0, *shape), dtype=torch.float64, device=self.x.device)))

    def explains(self, p: Tensor, spare: int = 0) -> bool:
        """Whether a prediction is g, where `spare` numbers of it were fitted and enough entries are left to tell."""
        left, g, error = (x.norm() for x in (self.g - p, self.g, self.error))
        return bool(
            self.evidence >= 3 + spare
            and left <= max(CLOSE * min(error, g), ROUNDED * max(g, self.r.norm()))
            and left <= 1e-2 * error
        )

    def mistaken(self, index: int, right: Tensor, downs: Tensor) -> list[int]:
        """Which of some cotangents (K, ...) explain g, if they are handed down to a value in place of the right one."""
        if index not in self.tangents or not len(downs) or downs.shape[1:] != right.shape:
            return []
        changes = downs - right
        seen = (self.probed(index, changes) - self.target).abs().amax(1) <= SEEN
        hits = seen.nonzero()[:MOST_HITS, 0].tolist()
        return [k for k in hits if self.explains(self.r + self.pull(index, changes[k]))]


_readings: WeakKeyDictionary[Evidence, Reading | None] = WeakKeyDictionary()


def reading(e: Evidence) -> Reading | None:
    """The formula of the evidence, read once, or None where it cannot be."""
    if e not in _readings:
        try:
            with torch.inference_mode(False):
                _readings[e] = Reading(e)
        except (UnreadableError, RuntimeError, ValueError, TypeError, NotImplementedError, StopIteration):
            _readings[e] = None
    return _readings[e]


def read(e: Evidence) -> Iterator[Reading]:
    """The reading, if there is one to speak of."""
    found = reading(e)
    if found is not None and found.evidence >= 3:
        yield found
