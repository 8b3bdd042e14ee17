"""Sums of objectives: a loss and what is asked of the parameters beside it, or several losses of the same batch.

    L(params, batch) + R(params)              fn.regularised(objective, fn.l2(1e-3))
    L(params, batch) + c M(params, batch)     fn.regularised(objective, another, c)

Values and gradients add up, and what is known of a term stays known: differences go through the layers of one and take the
other as it is, and the explicit gradient is the sum of both explicit ones, never half automatic.

A loss is a mean over the samples, a penalty is not: it belongs to the parameters, and so to each sample as a whole. Then the
value of the batch is again the mean of the samples', 1/N sum_n (L_n + c R), and the gradient of sample n is that on a batch
of this sample alone, dL_n + c dR, as with any objective.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import tree
from .batches import samples
from .errors import InputError, called, check_number, check_pair, check_value, describe
from .layers.factors import Rows, Summands
from .objectives import Backpropagated, Composed, of_some
from .operands import check_like
from .types import Batch, GradientFn, Objective, Params, ValueFn, name

Samples = Callable[[Params, Batch], tuple[Tensor, Summands]]


class OfEntries(NamedTuple):
    """A sum over all entries of the parameters, R = sum_i r(w_i), in float32 at least."""

    term: Callable[[Tensor], Tensor]
    title: str

    def __call__(self, params: Params) -> Tensor:
        """R, a scalar."""
        sums = [self.of(leaf).sum() for leaf in tree.leaves(params)]
        return sum(sums[1:], start=sums[0]) if sums else torch.zeros(())

    def of(self, leaf: Tensor) -> Tensor:
        """The terms of a leaf."""
        return self.term(leaf.to(torch.promote_types(leaf.dtype, torch.float32)))

    def __repr__(self) -> str:
        """What made it."""
        return self.title


class OfParams(NamedTuple):
    """A function of the parameters alone as one of (params, batch)."""

    function: Any

    def __call__(self, params: Params, batch: Batch) -> Any:
        """What the function says, whatever the batch."""
        return called("penalty(params)", self.function, params)

    def by_samples(self, params: Params, batch: Batch) -> tuple[Tensor, Summands]:
        """The same value and gradient for each of the N samples."""
        count = samples(batch)
        value, grads = self(params, batch)
        return value.expand(count), tree.map(lambda leaf: Rows(leaf.expand(count, *leaf.shape)), grads)

    def __repr__(self) -> str:
        """What the function is called."""
        return name(self.function)


class Sum(NamedTuple):
    """The value of two objectives together, a function of (params, batch)."""

    terms: tuple[ValueFn, ValueFn]
    weight: float = 1.0

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        """L + c R, in the dtype of L."""
        value, penalty = (called("objective.value(params, batch)", term, params, batch) for term in self.terms)
        return _added(value, self.weight, penalty)

    def __repr__(self) -> str:
        """Both of them."""
        return _title(*self)


class SumOfGradients(NamedTuple):
    """The value and the hand-derived gradient of two objectives together."""

    terms: tuple[GradientFn, GradientFn]
    weight: float = 1.0

    def __call__(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """(L + c R, dL + c dR)."""
        values, gradients = [], []
        for term, place in zip(self.terms, ("objective", "penalty"), strict=True):
            result = called(f"{place}.value_and_grad(params, batch)", term, params, batch)
            check_pair(f"{place}.value_and_grad(params, batch)", result, "(value, grads)")
            leaves, spec = check_like(f"grads of the {place}", result[1], params)
            values.append(result[0])
            gradients.append(spec.unflatten(leaves))
        (value, penalty), (grads, others) = values, gradients
        return _added(value, self.weight, penalty), tree.add_scaled(grads, self.weight, others)

    def of_some(self, params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
        """The value, and the gradients of the trained leaves alone."""
        (value, grads), (penalty, more) = (of_some(term, params, batch, trained) for term in self.terms)
        return _added(value, self.weight, penalty), tree.add_scaled(grads, self.weight, more)

    def __repr__(self) -> str:
        """Both of them."""
        return _title(*self)


def regularised(objective: Objective, penalty: Objective | Callable[[Params], Tensor], weight: float = 1.0) -> Objective:
    """The objective L(params, batch) + c R(params), or the sum of two losses of the same batch.

    Args:
        objective: L, such as supervised(layer, loss).
        penalty: R, a function of the parameters alone; or an Objective: l1(rate), l2(rate), another loss, or one of your
            own, Objective(value, value_and_grad), functions of (params, batch).
        weight: c.

    The sum has a hand-derived gradient where both have one. A penalty that is a plain function has none, so `explicit`
    refuses it; every other provider takes it. Sums may be regularised again.

    Raises:
        InputError: objective is no Objective, penalty neither one nor a function, or weight below 0; (when evaluated) a
            penalty that is no scalar, or whose gradients are not those of the parameters.
    """
    if not isinstance(objective, Objective):
        raise InputError("regularised(objective)", describe(objective), "an Objective, such as supervised(layer, loss)")
    if not isinstance(penalty, Objective):
        if not callable(penalty) or isinstance(penalty, tuple):
            needs = "a function of the parameters, or an Objective such as l2(1e-3)"
            raise InputError("regularised(penalty)", describe(penalty), needs)
        penalty = Objective(OfParams(penalty))
    weight = check_number("weight", weight)
    derived = (objective.value_and_grad, penalty.value_and_grad)
    gradient = None if derived[0] is None or derived[1] is None else SumOfGradients((derived[0], derived[1]), weight)
    return Objective(Sum((objective.value, penalty.value), weight), gradient)


def l2(rate: float) -> Objective:
    """The penalty R = rate/2 |w|^2 of all parameters w, with dR = rate w.

    Under sgd and momentum it is what torch.optim.SGD calls weight_decay; adam divides it by the size of the gradient, which
    adamw does not.

    Raises:
        InputError: rate is below 0 or no finite number.
    """
    rate = check_number("rate", rate)
    return _of_entries(f"l2({rate:g})", lambda w: 0.5 * rate * (w * w), lambda w: rate * w)


def l1(rate: float) -> Objective:
    """The penalty R = rate sum_i |w_i| of all parameters w, with dR = rate sign(w), 0 at 0, as in torch.

    Raises:
        InputError: rate is below 0 or no finite number.
    """
    rate = check_number("rate", rate)
    return _of_entries(f"l1({rate:g})", lambda w: rate * w.abs(), lambda w: rate * w.sign())


def samples_of(rule: Any) -> Samples | None:
    """How a gradient gives those of the samples in one pass, (params, batch) -> (values (N,), summands), if it knows."""
    if isinstance(rule, Backpropagated):
        return rule.by_samples()
    if isinstance(rule, OfParams):
        return rule.by_samples
    if isinstance(rule, SumOfGradients):
        first, second = map(samples_of, rule.terms)
        return None if first is None or second is None else partial(_each_added, first, rule.weight, second)
    return None


def networks(value: Any) -> Iterator[tuple[Composed, Callable[[ValueFn], ValueFn]]]:
    """The losses of networks that a value is made of, and for each what the value is with another in its place."""
    if isinstance(value, Composed):
        yield value, lambda other: other
    if isinstance(value, Sum):
        first, second = value.terms
        yield from ((network, partial(_with_first, value, put)) for network, put in networks(first))
        yield from ((network, partial(_with_second, value, put)) for network, put in networks(second))


def _with_first(value: Sum, put: Callable[[ValueFn], ValueFn], other: ValueFn) -> ValueFn:
    return value._replace(terms=(put(other), value.terms[1]))


def _with_second(value: Sum, put: Callable[[ValueFn], ValueFn], other: ValueFn) -> ValueFn:
    return value._replace(terms=(value.terms[0], put(other)))


def _title(terms: tuple[Any, Any], weight: float) -> str:
    return f"regularised({', '.join(map(name, terms))}{'' if weight == 1 else f', {weight:g}'})"


def _of_entries(title: str, term: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> Objective:
    value = OfEntries(term, title)
    gradient = OfParams(lambda params: (value(params), tree.map(slope, params)))
    return Objective(OfParams(value), gradient)


def _each_added(first: Samples, weight: float, second: Samples, params: Params, batch: Batch) -> tuple[Tensor, Summands]:
    (values, summands), (others, more) = first(params, batch), second(params, batch)
    leaves, spec = check_like("grads of the penalty", more, summands, exactly=False)
    added = [Rows(a.each() + weight * b.each()) for a, b in zip(tree.leaves(summands), leaves, strict=True)]
    return values + (weight * others).to(values.dtype), spec.unflatten(added)


def _added(value: Any, weight: float, penalty: Any) -> Tensor:
    """The sum in the dtype of the first; complex where a complex step carries one of them."""
    if any(isinstance(x, Tensor) and x.is_complex() for x in (value, penalty)):
        return torch.add(value, weight * penalty)
    check_value("objective.value(params, batch)", value)
    check_value("penalty(params)", penalty)
    return torch.add(value, (weight * penalty).to(value.dtype))
