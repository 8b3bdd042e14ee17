import pytest
import torch

import funcnn as fn
from experiments.bugs.subject import relative_error
from experiments.kernels.corpus import CASES
from experiments.kernels.judge import judge_operands
from experiments.kernels.names import NAMES, OPERANDS, held_out
from experiments.kernels.words import WORDS

LOOSE = {"float32_inside", "float32_inside_of_float64", "float32", "bfloat16", "mixed_precision"}


def floats(x):
    return isinstance(x, torch.Tensor) and x.is_floating_point()


def run(case, what, inputs, wanted=None, layout=0, only=None, meanwhile=None):
    """What one use of a kernel shows: its outputs, its gradients, and what it leaves of u and of its inputs."""
    leaves, unflatten = fn.tree.flatten(inputs)
    mine = [x.detach().clone() if isinstance(x, torch.Tensor) else x for x in leaves]
    for i, x in enumerate(mine):
        if floats(x) and x.isfinite().all() and (wanted is None or i in wanted):
            x.requires_grad_()
    backward = case.options.get("backward")
    function = getattr(what, "apply", what)
    y = function(*unflatten(mine))
    residuals = ()
    if backward is not None and isinstance(y, tuple):
        y, residuals = y
    outputs = [out for out in (y if isinstance(y, tuple) else (y,)) if floats(out)]
    if only is not None:
        outputs = outputs[only : only + 1]
    values = [out.detach().clone() for out in outputs]
    if meanwhile is not None:
        meanwhile()
    us = [torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).to(out) for out in values]
    if layout:
        us = [u.mT.contiguous().mT if u.ndim > 1 else torch.stack([u, u], -1)[..., 0] for u in us]
    handed = [u.clone() for u in us]
    if residuals:
        grads = backward(residuals, handed[0])
    else:
        grads = torch.autograd.grad(outputs, [x for x in mine if floats(x) and x.requires_grad], handed, allow_unused=True)
    return values, list(grads), [*handed, *(x.detach() for x in mine if floats(x))], outputs


def uses(case, word):
    """All uses of a kernel, built right or wrong, in the same order."""
    what, inputs = case.build(word), case.inputs()
    shown = []
    elsewhere = fn.tree.map(lambda x: x.detach() * 0.5 if floats(x) else x, inputs)

    def another():
        return run(case, what, elsewhere)

    first = run(case, what, inputs)
    kept = [g if g is None else g.clone() for g in first[1]]
    shown += [*first[0], *kept, *first[2]]
    for use in ({}, {"layout": 1}, {"meanwhile": another}, {"only": 0}):
        shown += run(case, what, inputs, **use)[1]
    shown += run(case, what, inputs)[2]
    shown += another()[1]
    looked_at_again = [*first[1], *(out.detach() for out in first[3])]  # what was returned at first
    shown += [x if x is None else x.clone() for x in looked_at_again]
    if not case.options:
        count = len(fn.tree.leaves(inputs))
        for i in range(count):
            if floats(fn.tree.leaves(inputs)[i]) and fn.tree.leaves(inputs)[i].isfinite().all():
                shown += run(case, what, inputs, wanted=[i])[1]
    return shown


def differ(x, y):
    if x is None or y is None:
        return x is not y
    if x.dtype == y.dtype and torch.equal(x, y):
        return False
    return x.shape != y.shape or x.dtype != y.dtype or relative_error(x.double(), y.double()) > 1e-6


@pytest.mark.parametrize("name", CASES)
def test_the_right_kernel_is_its_formula(name):
    case = CASES[name]
    limit = 2e-2 if name in LOOSE else 1e-11
    for layout in (0, 1):
        values, grads, _, _ = run(case, case.build(), case.inputs(), layout=layout)
        plain = case._replace(options={})
        formula, exact, _, _ = run(plain, case.formula, case.inputs(), layout=layout)
        if "reference" not in case.options:
            assert all(relative_error(x.double(), y.double()) < limit for x, y in zip(values, formula, strict=True))
        for g, r in zip(grads, exact, strict=False):
            assert g is None or relative_error(g.double(), r.double()) < limit


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.mistakes])
def test_a_wrong_twin_is_wrong_in_some_use(name):
    case = CASES[name]
    right = uses(case, "")
    assert not any(map(differ, right, uses(case, "")))
    for mistake in case.mistakes:
        try:
            wrong = uses(case, mistake.word)
        except RuntimeError:
            assert mistake.word == "view"
            continue
        assert len(wrong) == len(right) and any(map(differ, wrong, right)), mistake.what


def test_the_names_are_fixed_and_a_third_is_held_out():
    assert sorted(CASES) == OPERANDS and not set(OPERANDS) & set(NAMES)
    assert sum(map(held_out, OPERANDS)) == len(OPERANDS) // 3
    mistakes = [mistake for case in CASES.values() for mistake in case.mistakes]
    assert len(mistakes) >= 30 and {cause for m in mistakes for cause in m.causes.split()} <= WORDS.keys()


def test_the_judge_hands_out_cases_with_their_options():
    def check(what, inputs, reference=None):
        return fn.Report({"x": fn.Finding("ok" if reference else "unreliable", 0.0)})

    found = list(judge_operands(["straight_through", "memory", "pair"], check))
    assert [j.verdict for j in found[:4]] == ["right", "right", "refused", "wrong"]
    assert found[-1].said.startswith("TypeError")
