import pytest
import torch

import funcnn as fn
from experiments.bugs.subject import relative_error
from experiments.kernels.corpus import KERNELS
from experiments.kernels.judge import by_cause, judge, judged, listing, table
from experiments.kernels.kernel import padded
from experiments.kernels.names import LATER, NAMES, held_out
from experiments.kernels.words import WORDS, named


def gradients(rule, inputs, u):
    grads = padded(rule(*(x.clone() for x in inputs), u.clone()), len(inputs))
    return [g if g is not None else torch.zeros_like(x) for x, g in zip(inputs, grads, strict=True) if x.is_floating_point()]


def exact(kernel, inputs, u):
    taped = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    y = kernel.forward(*taped)
    return list(torch.autograd.grad(y, [x for x in taped if x.requires_grad], u))


def upstream(kernel, inputs):
    y = kernel.forward(*inputs)
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("name", KERNELS)
def test_the_right_rule_is_autograds_and_the_bugs_are_not(name):
    kernel = KERNELS[name]
    for seed in (0, 1):
        inputs = kernel.inputs(seed)
        u = upstream(kernel, inputs)
        right = exact(kernel, inputs, u)
        errors = [relative_error(g, r) for g, r in zip(gradients(kernel.rule, inputs, u), right, strict=True)]
        assert max(errors) < 1e-11, errors
        for bug in kernel.bugs:
            found = gradients(bug.rule, inputs, u)
            assert [g.shape for g in found] == [r.shape for r in right], bug.what
            assert max(relative_error(g, r) for g, r in zip(found, right, strict=True)) > 1e-6, bug.what


def test_the_names_are_fixed():
    assert sorted(KERNELS) == sorted([*NAMES, *LATER])


def test_a_third_is_held_out_and_every_kernel_has_four_to_six_bugs_with_causes():
    assert all(sum(map(held_out, names)) == len(names) // 3 for names in (NAMES, LATER))
    assert all(4 <= len(kernel.bugs) <= 6 for kernel in KERNELS.values())
    causes = [cause for kernel in KERNELS.values() for bug in kernel.bugs for cause in bug.causes.split()]
    assert set(causes) <= WORDS.keys() and all(bug.causes for kernel in KERNELS.values() for bug in kernel.bugs)
    assert all(len({bug.what for bug in kernel.bugs}) == len(kernel.bugs) for kernel in KERNELS.values())


def test_words_name_a_cause_or_do_not():
    assert named("sign: it is the negative of the reference: a sign", "factor sign")
    assert not named("factor 2: it is 0.5 times the reference: a factor 2 is missing", "sign slope once")


def test_the_judge_reads_reports():
    wrong = fn.Finding("wrong", 1.0, cause="sign", diagnosis="it is the negative of the reference")
    plain = fn.Finding("wrong", 1.0, diagnosis="no hypothesis fits; the best factor")
    reports = {"sign": wrong, "axis": wrong, "factor": plain}
    found = [judged("tile", cause, cause, lambda of=of: fn.Report({"x": of})) for cause, of in reports.items()]
    assert [j.naming for j in found] == ["right", "misnamed", "none"]
    refused = judged("tile", "", "", lambda: 1 / 0)
    assert (refused.verdict, refused.said) == ("refused", "ZeroDivisionError: division by zero")
    text = table([*found, refused])
    part = "held out" if held_out("tile") else "kept"
    row = next(line for line in text.splitlines() if line.startswith(f"kernels, {part}"))
    assert row.replace("|", "").split()[-11:-2] == ["3", "3", "0", "1", "1", "1", "1", "0", "1"]
    assert "misnamed tile: axis (axis)" in listing([*found, refused], held_out("tile"))
    assert listing(found, not held_out("tile")) == ""
    told = by_cause([j._replace(kernel=next(name for name in NAMES if not held_out(name))) for j in found])
    assert [line.split() for line in told.splitlines()] == [
        ["axis", "1", "misnamed"],
        ["factor", "1", "none"],
        ["sign", "1", "right"],
    ]


def test_the_judge_hands_out_functions_and_pairs():
    seen = []

    def check(forward, inputs, backward=None):
        seen.append(backward)
        return fn.Report({"x": fn.Finding("ok", 0.0)})

    assert [j.verdict for j in (*judge(["tile"], check), *judge(["tile"], check, pair=True))] == ["right"] * 12
    assert [backward is None for backward in seen] == [True] * 6 + [False] * 6
