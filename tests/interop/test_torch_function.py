import pytest
import torch
from helpers import EPS, assert_close, labels, normal, same_bits, says, seeded

import funcnn as fn

N, D, H = 5, 4, 3

LAYERS = {
    "dense": fn.dense(D, H),
    "dense without bias": fn.dense(D, H, bias=False),
    "sigmoid": fn.sigmoid(),
    "tanh": fn.tanh(),
    "relu": fn.relu(),
    "softmax": fn.softmax(),
    "mlp": fn.mlp([D, 3, H], fn.tanh),
    "perceptron": fn.perceptron(D),
    "autoencoder": fn.autoencoder([D, 2]),
}
P, Y = torch.rand(2, N, H, generator=seeded(), dtype=torch.float64)
LABELS = labels(N, H)
# name: (the loss, outputs, targets)
LOSSES = {
    "half squared error": (fn.half_squared_error(), normal(N, H), Y),
    "mean squared error": (fn.mean_squared_error(2.0), normal(N, H), Y),
    "binary cross entropy": (fn.binary_cross_entropy(), P, Y),
    "softmax cross entropy": (fn.softmax_cross_entropy(), normal(N, H), LABELS),
    "clipped to 0": (fn.softmax_cross_entropy(clip=0.0), normal(N, H), LABELS),
    "clipped": (fn.softmax_cross_entropy(clip=0.03), normal(N, H), LABELS),
}


def by_backward(function, *tensors):
    own = [tensor.detach().requires_grad_() for tensor in tensors]
    function(*own).backward()
    return [tensor.grad for tensor in own]


def by_autograd_grad(function, *tensors):
    own = [tensor.detach().requires_grad_() for tensor in tensors]
    return list(torch.autograd.grad(function(*own), own))


def by_func_grad(function, *tensors):
    return list(torch.func.grad(function, argnums=tuple(range(len(tensors))))(*tensors))


WAYS = {"backward": by_backward, "autograd.grad": by_autograd_grad, "func.grad": by_func_grad}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def flat(layer):
    """The layer in torch as a function of the leaves and x, its parameters as leaves, an input, and dL/dy."""
    function, params, x = fn.torch_function(layer), layer.init(seeded()), normal(N, D, seed=1)
    leaves, unflatten = fn.tree.flatten(params)
    dy = normal(*fn.apply(layer, params, x).shape, seed=2)
    return lambda *tensors: function(unflatten(list(tensors[:-1])), tensors[-1]), params, leaves, x, dy


def explicit(layer, params, x, dy):
    dparams, dx = layer.backward(layer.forward(params, x)[1], dy)
    return [*fn.tree.leaves(dparams), dx]


@pytest.mark.parametrize("name", LAYERS)
@ways
def test_a_layer_gives_its_own_values_and_the_gradients_of_its_own_rule(name, way):
    function, params, leaves, x, dy = flat(LAYERS[name])
    assert same_bits(function(*leaves, x), fn.apply(LAYERS[name], params, x))
    ours = way(lambda *tensors: (function(*tensors) * dy).sum(), *leaves, x)
    assert same_bits(ours, explicit(LAYERS[name], params, x, dy))


@pytest.mark.parametrize("name", LOSSES)
@ways
def test_a_loss_gives_its_own_value_and_the_gradient_of_its_own_rule(name, way):
    loss, outputs, targets = LOSSES[name]
    function = fn.torch_function(loss)
    value, residuals = loss.forward(outputs, targets)
    assert same_bits(function(outputs, targets), value)
    (doutputs,) = way(lambda outputs: 3 * function(outputs, targets), outputs)
    assert same_bits(doutputs, 3 * loss.backward(residuals))


@pytest.mark.parametrize("name", LAYERS)
def test_vmap_of_grad_gives_a_layers_gradients_sample_by_sample(name):
    function, params, leaves, x, dy = flat(LAYERS[name])

    def of_one(leaves, x, dy):
        return (function(*leaves, x[None]) * dy[None]).sum()

    per_sample = torch.func.vmap(torch.func.grad(of_one, argnums=(0, 1)), in_dims=(None, 0, 0))
    dleaves, dx = per_sample(leaves, x, dy)
    for n in range(N):
        expected = explicit(LAYERS[name], params, x[n : n + 1], dy[n : n + 1])
        assert_close([*(leaf[n] for leaf in dleaves), dx[n : n + 1]], expected, 10 * EPS)


@pytest.mark.parametrize("name", LOSSES)
def test_vmap_of_grad_gives_a_losss_gradients_sample_by_sample(name):
    loss, outputs, targets = LOSSES[name]
    function = fn.torch_function(loss)
    per_sample = torch.func.vmap(torch.func.grad(lambda y, t: function(y[None], t[None])))(outputs, targets)
    for n in range(N):
        expected = loss.backward(loss.forward(outputs[n : n + 1], targets[n : n + 1])[1])
        assert_close(per_sample[n : n + 1], expected, 10 * EPS)


@pytest.mark.parametrize("name", ["dense", "tanh", "softmax", "mlp"])
def test_jacobians_in_every_nesting_are_those_of_the_plain_forward_pass(name):
    function, params, leaves, x, _ = flat(LAYERS[name])

    def ours(x):
        return function(*leaves, x[None])[0]

    def plain(x):
        return fn.apply(LAYERS[name], params, x[None])[0]

    for nested in (torch.func.jacrev, lambda f: torch.func.jacrev(torch.func.jacrev(f))):
        assert_close(torch.func.vmap(nested(ours))(x), torch.func.vmap(nested(plain))(x), 100 * EPS)


@pytest.mark.parametrize("name", LAYERS)
def test_first_and_second_derivatives_of_layers_pass_torchs_own_check(name):
    function, _, leaves, x, _ = flat(LAYERS[name])
    own = [tensor.requires_grad_() for tensor in (*leaves, x)]
    assert torch.autograd.gradcheck(function, own, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, own, fast_mode=True)


@pytest.mark.parametrize("name", [name for name in LOSSES if "clipped" not in name])
def test_first_and_second_derivatives_of_losses_pass_torchs_own_check(name):
    loss, outputs, targets = LOSSES[name]
    outputs = outputs.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda outputs: fn.torch_function(loss)(outputs, targets), outputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda outputs: fn.torch_function(loss)(outputs, targets), outputs, fast_mode=True)


@ways
def test_a_wrong_rule_is_what_comes_out(way):
    right, x = fn.tanh(), normal(N, D)
    wrong = right._replace(backward=lambda residuals, dy: ((), 2.001 * right.backward(residuals, dy)[1]))
    functions = [fn.torch_function(layer) for layer in (wrong, right)]
    (found,), (truth,) = (way(lambda x, function=function: function((), x).sum(), x) for function in functions)
    assert_close(found, 2.001 * truth, EPS)


def test_a_wrong_rule_comes_out_of_vmap_too():
    right, x = fn.tanh(), normal(N, D)
    wrong = fn.torch_function(right._replace(backward=lambda residuals, dy: ((), 2.001 * right.backward(residuals, dy)[1])))
    found = torch.func.vmap(torch.func.grad(lambda x: wrong((), x).sum()))(x)
    assert_close(found, 2.001 * (1 - x.tanh() ** 2), 10 * EPS)


def test_whoever_differentiates_gets_the_clipped_gradient():
    layer, clipped, x = fn.mlp([D, 3, H]), fn.softmax_cross_entropy(clip=0.01), normal(N, D)
    function, params = fn.torch_function(clipped), layer.init(seeded())
    objective = fn.Objective(lambda params, batch: function(fn.apply(layer, params, batch[0]), batch[1]))
    batch, step_fn = (x, LABELS), fn.explicit(fn.supervised(layer, clipped))
    _, limited = step_fn(params, batch)
    _, free = fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy()))(params, batch)
    assert fn.tree.max_difference(limited, free) > 0.01
    for provider in (fn.func_grad, fn.autograd):
        assert_close(provider(objective)(params, batch)[1], limited, 10 * EPS)
        each = fn.per_sample(provider(objective))(params, batch)[1]
        assert_close(each, fn.per_sample(step_fn)(params, batch)[1], 10 * EPS)


def test_a_classic_loop_takes_the_steps_of_train():
    layer, loss, batch = fn.mlp([D, 3, H], fn.relu), fn.softmax_cross_entropy(clip=0.05), (normal(N, D), LABELS)
    network, criterion, params = fn.torch_function(layer), fn.torch_function(loss), layer.init(seeded())
    leaves, unflatten = fn.tree.flatten(params)
    weights = [torch.nn.Parameter(leaf.clone()) for leaf in leaves]
    optimizer = torch.optim.SGD(weights, lr=0.5)
    for step in fn.train(fn.explicit(fn.supervised(layer, loss)), fn.sgd(0.5), params, [batch] * 5):
        optimizer.zero_grad()
        value = criterion(network(unflatten(weights), batch[0]), batch[1])
        value.backward()
        optimizer.step()
        assert same_bits(value.detach(), step.value)
        assert same_bits([weight.detach() for weight in weights], fn.tree.leaves(step.params))


def test_the_gradient_for_the_inputs_is_not_formed_where_nobody_asks_for_it():
    plain = fn.dense(D, H)

    def inputs(residuals, dy):
        raise AssertionError("the rule for dx was called")

    layer = plain._replace(backward=plain.backward._replace(inputs=inputs))
    params = fn.tree.map(torch.Tensor.requires_grad_, layer.init(seeded()))
    fn.torch_function(layer)(params, normal(N, D)).sum().backward()
    assert_close(params["b"].grad, torch.full((H,), float(N)), EPS)


@ways
def test_a_layer_may_return_its_input_and_keep_nothing(way):
    identity = fn.relu()._replace(forward=lambda params, x: (x, ()), backward=lambda residuals, dy: ((), 2 * dy))
    function, x = fn.torch_function(identity), normal(N, D)
    assert same_bits(way(lambda x: function((), x).sum(), x), [torch.full_like(x, 2.0)])
    assert same_bits(torch.func.vmap(torch.func.grad(lambda x: function((), x).sum()))(x), torch.full_like(x, 2.0))


def test_vmap_over_the_parameters_trains_an_ensemble():
    layer, x = fn.dense(D, H), normal(N, D)
    function, models = fn.torch_function(layer), [layer.init(seeded(seed)) for seed in range(3)]
    stacked = fn.tree.map(lambda *leaves: torch.stack(leaves), *models)
    each = torch.func.vmap(torch.func.grad(lambda params: function(params, x).pow(2).sum()))(stacked)
    for index, params in enumerate(models):
        dparams, _ = layer.backward((x, params["w"]), 2 * fn.apply(layer, params, x))
        assert_close(fn.tree.map(lambda leaf, index=index: leaf[index], each), dparams, 10 * EPS)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_where_nothing_is_recorded_it_is_the_forward_pass(mode):
    function, params, leaves, x, _ = flat(LAYERS["mlp"])
    with mode():
        assert same_bits(function(*leaves, x), fn.apply(LAYERS["mlp"], params, x))
        assert fn.torch_function(fn.half_squared_error())(x, x.clone().requires_grad_()) == 0


@pytest.mark.parametrize("name", ["dense", "softmax", "mlp"])
@ways
def test_the_layout_in_memory_does_not_matter(name, way):
    function, params, leaves, x, dy = flat(LAYERS[name])
    strided, dy_strided = (torch.stack([tensor, tensor], dim=2)[..., 0] for tensor in (x, dy))
    assert not strided.is_contiguous()
    ours = way(lambda *tensors: (function(*tensors) * dy_strided).sum(), *leaves, strided)
    assert_close(ours, explicit(LAYERS[name], params, x, dy), 10 * EPS)


def test_an_output_that_is_changed_in_place_is_noticed():
    y = fn.torch_function(fn.sigmoid())((), normal(N, D).requires_grad_())
    y.add_(1)  # its residual too
    with pytest.raises(RuntimeError, match="inplace operation"):
        y.sum().backward()


LINE, ROWS = fn.torch_function(fn.dense(D, H)), fn.torch_function(fn.half_squared_error())
# the call: (a function without arguments, the place, what was found, what is needed)
REFUSED = {
    "a constructor": (lambda: fn.torch_function(fn.relu), "torch_function(pair)", "a function", "relu() and not relu"),
    "an objective": (
        lambda: fn.torch_function(fn.supervised(fn.relu(), fn.half_squared_error())),
        "torch_function(pair)",
        "a Objective",
        "a Layer or a Loss",
    ),
    "params that are None": (lambda: LINE(None, normal(N, D)), "params", "None", "a floating tensor"),
    "params of another layer": (lambda: LINE({"w": normal(D, H)}, normal(N, D)), "params", "['w']", "['b', 'w']"),
    "an input in a list": (lambda: LINE(fn.dense(D, H).init(seeded()), [1.0]), "x", "a list", "a tensor"),
    "an input of the wrong width": (
        lambda: LINE(fn.dense(D, H).init(seeded()), normal(N, H)),
        "inputs of params",
        f"({N}, {H})",
        f"(N, ..., {D})",
    ),
    "outputs in a list": (lambda: ROWS([1.0], normal(1)), "outputs", "a list", "a tensor"),
    "targets that are None": (lambda: ROWS(normal(N), None), "targets", "None", "a tensor"),
    "targets of another shape": (lambda: ROWS(normal(N, 1), normal(N)), "targets", f"({N},)", f"({N}, 1)"),
    "targets to be trained": (
        lambda: ROWS(normal(N), normal(N).requires_grad_()),
        "targets",
        "requires gradients",
        "targets.detach()",
    ),
    "targets to be transformed": (
        lambda: torch.func.grad(lambda targets: ROWS(normal(N), targets))(normal(N)),
        "targets",
        "requires gradients",
        "targets.detach()",
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_name(name):
    call, *message = REFUSED[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)


# the rule: (backward, the place, what was found, what is needed)
MISFITS = {
    "one gradient for two": (lambda kept, dy: dy, "layer.backward(residuals, dy)", f"shape ({N}, {D})", "(dparams, dx)"),
    "None for no parameters": (lambda kept, dy: (None, dy), "dparams", "PyTreeSpec(*", "PyTreeSpec(()"),
    "dx of another shape": (lambda kept, dy: ((), dy[:1]), "dx", f"(1, {D})", f"({N}, {D})"),
    "no dx": (lambda kept, dy: ((), None), "dx", "None", f"({N}, {D})"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", MISFITS)
@ways
def test_a_rule_whose_gradients_do_not_fit_is_refused(name, way):
    backward, *message = MISFITS[name]
    function = fn.torch_function(fn.tanh()._replace(backward=backward))
    with pytest.raises(fn.InputError) as caught:
        way(lambda x: function((), x).sum(), normal(N, D))
    assert says(caught.value, *message)


@pytest.mark.usefixtures("as_users_run_it")
def test_a_loss_whose_gradient_does_not_fit_is_refused():
    function = fn.torch_function(fn.half_squared_error()._replace(backward=lambda error: error.sum()))
    with pytest.raises(fn.InputError) as caught:
        WAYS["backward"](lambda y: function(y, normal(N, H)), normal(N, H))
    assert says(caught.value, "doutputs", "shape ()", f"shape ({N}, {H})")
