import math

import pytest
import torch
from helpers import assert_close, labels, normal, numerical_gradient, one_by_one, same_bits, says
from tables import LOSSES, REALS, WANTED

import funcnn as fn

ROUNDING = {torch.float64: 1e-13, torch.float32: 2e-5}

every_loss = pytest.mark.parametrize("name", LOSSES)
every_dtype = pytest.mark.parametrize("dtype", ROUNDING)


def scene(name, dtype=torch.float64):
    """(loss, outputs, targets, the same in torch's words)"""
    row = LOSSES[name]
    targets = row.targets.to(dtype) if row.targets.is_floating_point() else row.targets
    return row.loss, row.outputs.to(dtype), targets, row.formula


def gradient(loss, outputs, targets):
    return loss.backward(loss.forward(outputs, targets)[1])


@every_dtype
@every_loss
def test_the_value_and_its_gradient_are_those_of_the_formula(name, dtype):
    loss, outputs, targets, formula = scene(name, dtype)
    for some in (slice(None), slice(1)):
        value, residuals = loss.forward(outputs[some], targets[some])
        assert_close(value, formula(outputs[some], targets[some]), ROUNDING[dtype])
        expected, clip = torch.func.grad(formula)(outputs[some], targets[some]), LOSSES[name].clip
        expected = expected if clip is None else expected.clamp(-clip, clip)
        assert_close(loss.backward(residuals), expected, ROUNDING[dtype])


@pytest.mark.parametrize("name", [name for name in LOSSES if LOSSES[name].clip is None])
def test_the_gradient_is_what_differences_of_the_value_see(name):
    loss, outputs, targets, _ = scene(name)
    numerical = numerical_gradient(lambda outputs: loss.forward(outputs, targets)[0], outputs)
    assert_close(gradient(loss, outputs, targets), numerical, 1e-7)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "a user's sum"])
def test_the_loss_of_a_batch_is_the_mean_of_the_losses_of_its_samples(name):
    loss, outputs, targets, _ = scene(name)
    each = one_by_one(lambda batch: loss.forward(*batch)[0], (outputs, targets))
    assert_close(loss.forward(outputs, targets)[0], each.mean(), 1e-14)


@pytest.mark.parametrize("name", [name for name in LOSSES if not name.startswith("a user's")])
def test_its_terms_and_their_slopes_are_those_of_batches_of_one(name):
    loss, outputs, targets, _ = scene(name)
    terms, residuals = loss.forward.each(outputs, targets)
    assert_close(terms, one_by_one(lambda batch: loss.forward(*batch)[0], (outputs, targets)), 1e-14)
    slopes = one_by_one(lambda batch: gradient(loss, *batch), (outputs, targets)).squeeze(1)
    assert_close(loss.backward.each(residuals), slopes, 1e-14)


@every_loss
def test_both_halves_can_be_vmapped(name):
    loss, outputs, targets, _ = scene(name)

    def both(batch):
        value, residuals = loss.forward(*batch)
        return value, loss.backward(residuals)

    found = torch.func.vmap(lambda *sample: both(tuple(leaf[None] for leaf in sample)))(outputs, targets)
    assert_close(found, one_by_one(both, (outputs, targets)), 1e-14)


@every_loss
def test_its_operands_stay_as_they_were_and_the_same_bits_come_again(name):
    loss, outputs, targets, _ = scene(name)
    before = fn.tree.clone((outputs, targets))
    value, residuals = loss.forward(outputs, targets)
    assert all(isinstance(leaf, torch.Tensor) for leaf in fn.tree.leaves(residuals))
    kept, grad = fn.tree.clone((value, residuals)), loss.backward(residuals)
    assert same_bits((outputs, targets), before) and same_bits((value, residuals), kept)
    assert same_bits(loss.forward(outputs, targets), kept) and same_bits(loss.backward(residuals), grad)


def transposed(x):
    return x.mT.contiguous().mT if x.ndim > 1 else sliced(x)


def sliced(x):
    return x.repeat_interleave(2, -1)[..., ::2]


@pytest.mark.parametrize("stride", [transposed, sliced])
@every_loss
def test_the_strides_of_its_operands_do_not_matter(name, stride):
    loss, outputs, targets, _ = scene(name)
    strided = stride(outputs), stride(targets)
    assert_close(loss.forward(*strided)[0], loss.forward(outputs, targets)[0], 1e-14)
    assert_close(gradient(loss, *strided), gradient(loss, outputs, targets), 1e-14)


PRINTED = {
    "half squared error": "half_squared_error()",
    "scaled squared error": "mean_squared_error(2.5)",
    "binary cross entropy": "binary_cross_entropy()",
    "softmax cross entropy": "softmax_cross_entropy()",
    "clipped cross entropy": "softmax_cross_entropy(clip=0.05)",
    "a user's": "nothing_known(...)",
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_loss_prints_as_what_made_it(name):
    assert repr(LOSSES[name].loss) == PRINTED[name]


def test_the_half_squared_error_of_a_sample_has_gradient_prediction_minus_target():
    value, residuals = fn.half_squared_error().forward(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 2.0]]))
    assert value == 0.5 * (4 + 1)
    assert torch.equal(fn.half_squared_error().backward(residuals), torch.tensor([[2.0, -1.0]]))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 10.0])
def test_the_scale_multiplies_the_mean_squared_error_and_its_gradient(scale):
    outputs, targets = REALS, WANTED
    value, residuals = fn.mean_squared_error().forward(outputs, targets)
    scaled, scaled_residuals = fn.mean_squared_error(scale).forward(outputs, targets)
    assert_close(scaled, scale * value, 1e-15)
    grad, expected = fn.mean_squared_error(scale).backward(scaled_residuals), fn.mean_squared_error().backward(residuals)
    assert_close(grad, scale * expected, 1e-15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("y", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("p", [0.0, 1.0, 0.5, "tiny", "next to 1"])
def test_binary_cross_entropy_is_finite_everywhere_and_its_gradient_its_own(p, y, dtype):
    numbers = torch.finfo(dtype)
    p = {"tiny": numbers.tiny, "next to 1": 1 - numbers.eps}.get(p, p)
    outputs, targets = torch.tensor([[p]], dtype=dtype), torch.tensor([[y]], dtype=dtype)
    loss = fn.binary_cross_entropy()
    value, residuals = loss.forward(outputs, targets)
    grad = loss.backward(residuals)
    limit = -math.log(numbers.tiny)
    expected = -(y * max(math.log(p or numbers.tiny), -limit) + (1 - y) * max(math.log((1 - p) or numbers.tiny), -limit))
    assert torch.isfinite(grad).all()
    assert math.isclose(value.item(), expected, rel_tol=1e-6 if dtype == torch.float32 else 1e-14)
    own = torch.func.grad(lambda outputs: loss.forward(outputs, targets)[0])(outputs)
    assert torch.allclose(grad, own, rtol=4 * numbers.eps, atol=0)


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_a_certain_and_right_prediction_costs_nothing(y):
    value, _ = fn.binary_cross_entropy().forward(torch.tensor([[y]]), torch.tensor([[y]]))
    assert value == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_softmax_cross_entropy_is_finite_for_enormous_logits(dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]], dtype=dtype)
    value, residuals = fn.softmax_cross_entropy().forward(logits, torch.tensor([0, 1]))
    assert value == 1e4
    grad = fn.softmax_cross_entropy().backward(residuals)
    assert torch.equal(grad, torch.tensor([[0, 0, 0], [0.5, -0.5, 0]], dtype=dtype))


@pytest.mark.parametrize(("count", "expected"), [(2, 0.693147), (10, 2.302585), (100, 4.605170)])
@pytest.mark.parametrize("logit", [0.0, 3.0, -1e4])
def test_equal_logits_cost_the_logarithm_of_the_number_of_classes(count, expected, logit):
    value, _ = fn.softmax_cross_entropy().forward(torch.full((5, count), logit), labels(5, count))
    assert abs(value - expected) < 1e-6


# name: (logits, labels, the place, what was found, what is needed)
REFUSED = {
    "logits of one axis": (normal(4), labels(4, 3), "outputs", "(4,)", "(N, ..., C)"),
    "no classes": (normal(4, 0), labels(4, 3), "outputs", "(4, 0)", "and entries"),
    "a label for a text of two tokens": (normal(4, 2, 3), labels(4, 3), "targets", "(4,)", "(4, 2)"),
    "one-hot labels of tokens": (normal(4, 2, 3), torch.ones(4, 2, 3).long(), "targets", "(4, 2, 3)", "(4, 2)"),
    "a token's label too large": (normal(4, 2, 3), torch.tensor([[0, 3]] * 4), "targets", "the label 3", "0 to 2"),
    "a token's label negative": (normal(4, 2, 3), torch.tensor([[-100, 0]] * 4), "targets", "the label -100", "0 to 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_softmax_cross_entropy_refuses_labels_that_do_not_fit_the_logits(name):
    outputs, targets, *message = REFUSED[name]
    with pytest.raises(fn.InputError) as caught:
        fn.softmax_cross_entropy().forward(outputs, targets)
    assert says(caught.value, *message)


@pytest.mark.parametrize("clip", [0.0, 0.01, 0.1, 10.0])
def test_clip_limits_the_gradient_and_leaves_the_value(clip):
    outputs, targets = scene("softmax cross entropy")[1:3]
    plain, clipped = fn.softmax_cross_entropy(), fn.softmax_cross_entropy(clip=clip)
    value, residuals = clipped.forward(outputs, targets)
    assert torch.equal(value, plain.forward(outputs, targets)[0])
    unlimited = plain.backward(plain.forward(outputs, targets)[1])
    assert torch.equal(clipped.backward(residuals), unlimited.clamp(-clip, clip))
    assert clip == 10.0 or not torch.equal(clipped.backward(residuals), unlimited)
