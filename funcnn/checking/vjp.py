"""Checking a backward rule alone: y = f(x) and its pullback u -> J^T u, for any cotangent u.

For a fixed u the pullback is the gradient of <u, f(x)>, so all of `check` applies, with a u that is different everywhere.
But a backward rule meets many others, and may be right for one and wrong for the next: see `cotangents`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import kernels, tree
from ..errors import InputError, check_number, check_seed, describe
from ..providers.differences import finite_difference
from ..providers.reverse import func_grad
from ..report import Report
from ..types import Layer, Loss, Objective, Tree
from .check import examine
from .cotangents import Contraction, adjoint, another_forward, attacks
from .formula import Formula, Swap
from .mistakes import Forward, Prediction, predict
from .pullback import Pullback, floats, lifted
from .question import Question, check_finite
from .surface import Surface
from .trials import copied

UNLIKE = 0x9E3779B97F4A7C15  # the inputs may have been drawn with the very same seed


def check_vjp(
    forward: Any, inputs: tuple[Tree, ...], *, backward: Any = None, tolerance: float = 1e-7, seed: int = 0
) -> Report:
    """Checks a backward rule against central differences in float64, and with cotangents that attack it.

    The leaves of the report are those of the inputs that the rule gives a gradient for, such as `inputs[0]['w']`; its
    trials are the cotangents and identities above.

    Args:
        forward: A rule forward(*inputs) -> (y, residuals). Without `backward`: a Layer, with inputs (params, x), a Loss,
            with inputs (outputs, targets), or a torch.autograd.Function, with the arguments of its `apply`.
        inputs: Where to check, in any precision: trees of tensors. What is no floating tensor stays as it is.
        backward: The rule backward(residuals, dy) -> the gradients of the first inputs, or of all, None for none. That of
            a loss takes the residuals alone and gives the gradient of the first input.
        tolerance: As in `check`.
        seed: Of the cotangents and the directions.

    Raises:
        InputError: no rule of these forms; inputs that are no tuple, not finite, or that the rule gives no gradients for.
    """
    tolerance, seed = check_number("tolerance", tolerance), check_seed(seed)
    if not isinstance(inputs, tuple) or not inputs:
        raise InputError("inputs", repr(inputs), "a tuple of what forward is called with")
    check_finite("inputs", inputs)
    report: Report = kernels.undisturbed(_checked, forward, lifted(forward, backward), inputs, tolerance, seed)
    return report


def _checked(forward: Any, pullback: Pullback, inputs: tuple[Tree, ...], tolerance: float, seed: int) -> Report:
    generator = torch.Generator().manual_seed((seed + UNLIKE) % 2**63)
    y = pullback.value(copied(inputs))
    if not floats(y) or not y.numel():
        raise InputError("forward(*inputs)[0]", describe(y), "a floating tensor with entries")
    u, v = (torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y) for _ in range(2))
    contraction = Contraction(pullback, inputs, u)

    samples = inputs[-1] if isinstance(forward, Layer) else inputs[0]
    counts = [len(x) for x in (y, *tree.leaves(samples)) if isinstance(x, Tensor) and x.ndim] or [1]  # the rows of y first
    predictions = partial(_predictions, forward, contraction)
    question = Question(
        contraction.step_fn,
        None,
        contraction.params,
        (),
        "inputs",
        tuple(dict.fromkeys(counts)),
        contraction.rows,
        predictions,
        partial(_formula, contraction),
    )
    report = examine(question, tolerance, seed)
    trials = report.trials | {"untouched upstream": pullback.hands_off(inputs, u)}
    findings = report.leaves.values()
    compared = all(finding.verdict != "unreliable" and finding.cause != "not finite" for finding in findings)
    if compared and trials["untouched upstream"].verdict == "ok":
        allowed = max(finding.allowed for finding in findings)
        trials |= attacks(contraction, v, generator, allowed)
        trials["another forward"] = another_forward(contraction, allowed)
        if all(finding.verdict == "ok" for finding in findings):  # a second witness, but not where torch takes another side
            trials["adjoint"] = adjoint(contraction, generator, allowed)
    skipped = [
        f"inputs[{i}] has no gradient by this rule (None), and was not checked."
        for i, (x, given) in enumerate(zip(inputs, contraction.given, strict=True))
        if not given and not isinstance(forward, Loss) and any(map(floats, tree.leaves(x)))
    ]
    return Report(report.leaves, trials, report.samples, (*report.remarks, *skipped))


def assert_vjp(
    forward: Any, inputs: tuple[Tree, ...], *, backward: Any = None, tolerance: float = 1e-7, seed: int = 0
) -> None:
    """For pytest: raises AssertionError with the report unless `check_vjp` is content. Arguments and errors as there."""
    __tracebackhide__ = True
    report = check_vjp(forward, inputs, backward=backward, tolerance=tolerance, seed=seed)
    if not report:
        raise AssertionError(f"the backward rule is not right\n{report}")


def _formula(contraction: Contraction, surface: Surface, position: int) -> Formula:
    flat, unflatten = tree.flatten(contraction.inputs)
    paths, names = tree.paths(contraction.inputs, "inputs"), tuple(tree.paths(surface.params, "inputs"))
    whole = list(zip(paths, flat, strict=True))

    def f(*leaves: Tensor, **others: Tensor) -> tuple[Tensor, ...]:
        inputs = unflatten([others.get(name, x) for name, x in whole])
        return (contraction.pullback.value(contraction.whole(surface.unflatten(list(leaves)), inputs)),)

    def pull(leaves: Sequence[Tensor], u: Sequence[Tensor], swap: Swap | None = None) -> list[Tensor]:
        grads = contraction.pull(surface.unflatten([*leaves]), u[0], swap=swap)
        return [leaf.detach() for leaf in tree.leaves(grads)]

    rest = tuple((name, x) for name, x in whole if name not in names and isinstance(x, Tensor))
    return Formula(f, tuple(surface.leaves), names, (contraction.u.double(),), pull, position, rest)


def _predictions(forward: Any, contraction: Contraction, surface: Surface) -> list[Prediction]:
    """What mistakes in a layer would do; and of any rule, that it takes its cotangent to be the same everywhere."""
    u = contraction.u.double()
    uniform = Objective(lambda params, batch: contraction.value(params).sum())
    ones = tree.leaves(finite_difference(uniform)(surface.params, ())[1])
    found: list[Prediction] = [
        ("upstream", f"the cotangent is taken to be {what}", [factor * leaf for leaf in ones])
        for what, factor in (("1", 1.0), ("its first entry", u.flatten()[0]), ("its mean", u.mean()))
    ]
    if isinstance(forward, Layer):
        params, x = surface.params

        def gradient(mistaken: Forward) -> list[Tensor]:
            objective = Objective(lambda inputs, batch: (u * mistaken(*inputs)).sum())
            return tree.leaves(func_grad(objective)((params, x), ())[1])

        return predict(forward.forward, params, x, gradient) + found
    if len(surface.leaves) == 2 and surface.leaves[0].shape == surface.leaves[1].shape:
        exchanged = tree.leaves(surface.gradient)[::-1]
        found.append(("permuted", "the gradients of the two inputs are exchanged", exchanged))
    found += _transposed_inputs(surface)
    if len(surface.leaves) == 1 and surface.leaves[0].shape == u.shape:
        output = surface.unflatten([contraction.value(surface.params)])
        at_output = tree.leaves(finite_difference(Objective(surface.reference.value))(output, ())[1])
        elsewhere = "the derivative is taken at the output, not at the input"
        missing = "the derivative is missing: the cotangent comes out as it went in"
        found += [("activation derivative", missing, [u]), ("activation derivative", elsewhere, at_output)]
    return found


def _transposed_inputs(surface: Surface) -> list[Prediction]:
    """A square matrix in place of its transpose."""
    found: list[Prediction] = []
    for position, leaf in enumerate(surface.leaves):
        if leaf.ndim == 2 and leaf.shape[0] == leaf.shape[1]:
            turned = surface.unflatten([*surface.leaves[:position], leaf.mT.contiguous(), *surface.leaves[position + 1 :]])
            grads = tree.leaves(finite_difference(Objective(surface.reference.value))(turned, ())[1])
            place = tree.paths(surface.params, "inputs")[position]
            found.append(("transposed", f"{place} is used in place of its transpose", grads))
    return found
