"""What is said to somebody who passed a kernel: inputs, outputs, cotangent, and nothing of training."""

import re

import pytest
import torch
from helpers import normal

import funcnn as fn

X, W = normal(6, 4), normal(4, 3, seed=1)
OF_TRAINING = re.compile(r"step_fn|\bparams|\bparameters|\bsamples?\b|\blayer|\bbatch\b")


def dense(x, w, b):
    return x @ w + b, (x, w)


def dense_backward(kept, dy):
    x, w = kept
    return dy @ w.T, x.T @ dy, dy.sum(0)


def of_dense(change):
    def backward(kept, dy):
        return change(kept, dy, *dense_backward(kept, dy))

    return dense, (X, W, normal(3, seed=2)), backward


def of_square(backward, forward=lambda x: (x * x, x)):
    return forward, (X,), backward


def by_rows(weight):
    return of_square(lambda x, dy: 2 * dy * x * torch.tensor(weight, dtype=X.dtype)[:, None])


def writes(index, x):
    y = x[index].sin()
    kept = x.clone()
    x.add_(1)
    return y, (index, kept)


def rows_of(kept, dy):
    index, x = kept
    return None, torch.zeros_like(x).index_add(0, index, dy) * x.cos()


def raises(x, dy):
    raise ValueError("no")


# name: (forward, inputs, backward, what is said)
WRONG = {
    "rows that count otherwise": (*by_rows([1, 0.9, 0.5, 1, 1.3, 0.2]), "rows 1, 2, 4, 5 count 0.2 to 1.3 times"),
    "rows put together wrongly": (*of_dense(lambda kept, dy, x, w, b: (x, w, b * dy.any(1).sum())), "Each row by itself"),
    "one row for all": (*of_dense(lambda kept, dy, x, w, b: (x, w, dy[0])), "that of row 0 alone"),
    "a mean": (*of_dense(lambda kept, dy, x, w, b: (x, w, dy.mean(0))), "the rows are averaged where they must be summed"),
    "not summed": (*of_dense(lambda kept, dy, x, w, b: (x, w, dy)), "it is not summed over the rows"),
    "a sign": (*of_square(lambda x, dy: -2 * dy * x), "6 of 6 rows disagree"),
    "transposed": (*of_dense(lambda kept, dy, x, w, b: (x, w.T.contiguous(), b)), "it is transposed"),
    "zero": (*of_square(lambda x, dy: 0 * dy), "it is 0"),
    "the cotangent is 1": (*of_square(lambda x, dy: 2 * x), "the cotangent is taken to be 1"),
    "the derivative is missing": (*of_square(lambda x, dy: dy), "the cotangent comes out as it went in"),
    "no cause": (*of_square(lambda x, dy: 2 * dy * x + dy.sin() * x.cos().cumsum(1)), "no hypothesis fits"),
    "not linear": (*of_square(lambda x, dy: 2 * dy.clamp(-3, 3) * x), "linear in the cotangent"),
    "one entry": (*of_square(lambda x, dy: 2 * dy * x + torch.eye(24)[5].view(6, 4)), "only [1, 1] is wrong"),
    "raises": (*of_square(raises), "the backward raises ValueError: no"),
    "no gradient": (*of_dense(lambda kept, dy, x, w, b: (x, w, None)), "the rule gives None"),
    "writes into an input": (writes, (torch.tensor([0, 2]), X), rows_of, "the call writes into inputs[1]"),
}
RIGHT = {
    "dense": of_dense(lambda kept, dy, x, w, b: (x, w, b)),
    "a square": of_square(lambda x, dy: 2 * dy * x),
    "overflows": (lambda x: (torch.nn.functional.softplus(x), x), (X,), lambda x, dy: dy * x.exp() / (1 + x.exp())),
    "a second derivative lost": (lambda x: x * x.detach() * 2 - x.detach() ** 2, (X,), None),
    "float32": (lambda x: (x * x, x), (X.float(),), lambda x, dy: 2 * dy * x),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_kernel_is_told_in_its_own_words(name):
    forward, inputs, backward, said = WRONG[name]
    report = fn.check_vjp(forward, inputs, backward=backward)
    assert not report.ok and said in str(report), report
    assert not OF_TRAINING.search(str(report)), report


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_told_of_a_right_kernel_has_no_other_words(name):
    forward, inputs, backward = RIGHT[name]
    report = fn.check_vjp(forward, inputs, backward=backward)
    assert not OF_TRAINING.search("\n".join([str(report), *(trial.diagnosis for trial in report.trials.values())])), report


def test_what_is_needed_of_a_kernel_is_told_in_its_own_words():
    def single(x):
        if x.dtype != torch.float32:
            raise RuntimeError("float32 alone")
        return x * x, x

    with pytest.raises(fn.InputError, match=r"reference\(\*inputs\)") as caught:
        fn.check_vjp(single, (X.float(),), backward=lambda x, dy: 2 * dy * x)
    assert not OF_TRAINING.search(str(caught.value))
