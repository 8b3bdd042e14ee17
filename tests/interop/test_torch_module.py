import threading

import pytest
import torch
from helpers import EPS, assert_close, labels, normal, same_bits, says, seeded
from torch import nn

import funcnn as fn

N = 6
FLAT, SEQUENCES, IMAGES, TOKENS = normal(N, 4), normal(N, 5, 8, seed=1), normal(N, 3, 6, 6, seed=2), labels(N, 7)


class Last(nn.Module):
    """The last output of a GRU, wrapped so that one tensor comes out."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(8, 3, batch_first=True)

    def forward(self, x):
        return self.gru(x)[0][:, -1]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.norm, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1, bias=False)
        self.gain = nn.Parameter(torch.tensor(0.7))

    def forward(self, x):
        return x + self.gain * self.two(torch.relu_(self.norm(self.one(x))))


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 5).requires_grad_(False), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.body(x).tanh())


def encoder(**how):
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **how)


# name: (a module, its inputs)
MODULES = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), FLAT),
    "overwriting": (lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3), nn.ReLU(inplace=True)), FLAT),
    "residual": (lambda: Residual().eval(), IMAGES),
    "frozen": (Frozen, FLAT),
    "gru": (Last, SEQUENCES),
    "embedding": (lambda: nn.Embedding(7, 4), TOKENS),
    "encoder in use": (lambda: encoder().eval(), SEQUENCES),
    "encoder without dropout": (lambda: encoder(dropout=0.0), SEQUENCES),
    "batch norm by the batch": (lambda: nn.BatchNorm1d(4, track_running_stats=False), FLAT),
    "weight norm": (lambda: torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), FLAT),
    "spectral norm": (lambda: torch.nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)).eval(), FLAT),
    "one parameter": (nn.PReLU, FLAT),
}
TRANSFORMS_WARN = "ignore:There is a performance drop because"

every_module = pytest.mark.parametrize("name", MODULES)


def made(name):
    """(the module, its layer, parameters, inputs)"""
    make, x = MODULES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        nn_module = make()
    layer = fn.module(nn_module)
    return nn_module, layer, layer.init(seeded()), x


def at(tree, name):
    for part in name.split("."):
        tree = tree[part]
    return tree


def squares(layer):
    """The mean square of a layer's outputs with the gradient of its own rule."""

    def value_and_grad(params, x):
        y, residuals = layer.forward(params, x)
        return y.square().mean(), layer.backward(residuals, 2 * y / y.numel())[0]

    return fn.Objective(lambda params, x: layer(params, x).square().mean(), value_and_grad)


@every_module
def test_values_and_gradients_are_those_of_classic_torch_and_the_module_stays_as_it_was(name):
    nn_module, layer, params, x = made(name)
    held, mode = fn.tree.clone(dict(nn_module.state_dict())), [part.training for part in nn_module.modules()]
    y, residuals = layer.forward(params, x)
    dy = normal(*y.shape, seed=3)
    dparams, dx = layer.backward(residuals, dy)
    assert same_bits(dict(nn_module.state_dict()), held) and [part.training for part in nn_module.modules()] == mode
    assert all(leaf.grad is None for leaf in nn_module.parameters())
    own = x.clone().requires_grad_(x.is_floating_point())
    outputs = nn_module(own.clone())
    outputs.backward(dy)
    assert_close(y, outputs.detach(), 20 * EPS)
    for path, leaf in nn_module.named_parameters():
        if leaf.requires_grad:
            assert_close(at(dparams, path), leaf.grad, 20 * EPS)
    assert len(fn.tree.leaves(params)) == sum(leaf.requires_grad for leaf in nn_module.parameters())
    assert dx == () if own.grad is None else assert_close(dx, own.grad, 20 * EPS) is None


@pytest.mark.filterwarnings(TRANSFORMS_WARN)
@pytest.mark.parametrize("provider", ["func_grad", "autograd", "central_difference"])
@every_module
def test_every_provider_agrees(name, provider):
    _, layer, params, x = made(name)
    objective = squares(layer)
    _, expected = fn.explicit(objective)(params, x)
    tolerance = 1e-7 if provider == "central_difference" else 20 * EPS
    assert_close(fn.PROVIDERS[provider](objective)(params, x)[1], expected, tolerance)


@pytest.mark.filterwarnings(TRANSFORMS_WARN)
@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("gru", "batch norm by the batch")])
def test_gradients_per_sample_are_those_of_batches_of_one(name):
    _, layer, params, x = made(name)
    step_fn = fn.explicit(squares(layer))
    alone = [step_fn(params, row[None])[1] for row in x]
    expected = fn.tree.map(lambda *leaves: torch.stack(leaves), *alone)
    assert_close(fn.per_sample(step_fn)(params, x)[1], expected, 50 * EPS)


@pytest.mark.parametrize("name", ["residual", "encoder in use", "frozen", "embedding"])
def test_it_trains_as_the_module_does_with_torch_optim(name):
    nn_module, layer, params, x = made(name)
    trained = [leaf for leaf in nn_module.parameters() if leaf.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.5)
    *_, last = fn.train(fn.explicit(squares(layer)), fn.sgd(0.5), params, [x] * 20)
    for _ in range(20):
        optimizer.zero_grad()
        nn_module(x).square().mean().backward()
        optimizer.step()
    for path, leaf in nn_module.named_parameters():
        if leaf.requires_grad:
            assert_close(at(last.params, path), leaf.detach(), 1e-13)


@pytest.mark.parametrize("name", ["residual", "encoder in use", "embedding"])
def test_a_compiled_step_is_the_eager_one(name):
    _, layer, params, x = made(name)
    eager, quick = (
        list(fn.train(fn.explicit(squares(layer)), optimizer, params, [x] * 2))[-1].params
        for optimizer in (fn.sgd(0.1), fn.compiled(fn.sgd(0.1)))
    )
    assert_close(quick, eager, 1e-13)


@pytest.mark.parametrize("name", ["mlp", "residual", "frozen"])
def test_derivatives_of_the_layer_pass_torchs_own_check(name):
    _, layer, params, x = made(name)
    leaves, unflatten = fn.tree.flatten(params)
    own = [leaf.requires_grad_() for leaf in (*leaves, x[:2].clone())]

    def function(*tensors):
        return fn.torch_function(layer)(unflatten(list(tensors[:-1])), tensors[-1])

    assert torch.autograd.gradcheck(function, own, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, own, fast_mode=True)


def test_what_becomes_of_the_module_later_does_not_matter():
    nn_module, layer, params, x = made("residual")
    y = layer(params, x)
    with torch.no_grad():
        for leaf in [*nn_module.parameters(), *nn_module.buffers()]:
            leaf.zero_()
    nn_module.train()
    assert same_bits(layer(params, x), y) and same_bits(layer.init(seeded(1)), params)
    fn.tree.map(torch.Tensor.zero_, params)
    assert same_bits(layer(layer.init(seeded()), x), y)


def test_names_are_the_modules_and_tied_ones_are_one_leaf():
    nn_module = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    nn_module[2].weight = nn_module[0].weight
    layer = fn.module(nn_module)
    assert fn.tree.paths(layer.init(seeded())) == ["params['0']['bias']", "params['0']['weight']", "params['2']['bias']"]
    weight = nn_module[0].weight
    (nn_module(FLAT) ** 2).sum().backward()
    y, residuals = layer.forward(layer.init(seeded()), FLAT)
    assert_close(layer.backward(residuals, 2 * y)[0]["0"]["weight"], weight.grad, 20 * EPS)


def test_sparse_gradients_come_with_their_zeros():
    weight, dy = normal(7, 4), normal(N, 4, seed=1)
    of_sparse, of_dense = (
        fn.module(nn.Embedding(7, 4, sparse=sparse, _weight=weight)).backward(({"weight": weight}, TOKENS), dy)
        for sparse in (True, False)
    )
    assert same_bits(of_sparse, of_dense)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_parameters_and_buffers_come_in_the_dtype_that_is_asked_for(dtype):
    nn_module, layer, _, x = made("residual")
    params = layer.init(seeded(), dtype=dtype)
    assert same_bits(layer(params, x.to(dtype)), nn_module.to(dtype)(x.to(dtype)).detach())


def test_constants_alone_come_in_the_dtype_of_the_inputs():
    layer = fn.serial(fn.module(nn.Linear(4, 3, dtype=torch.float32).requires_grad_(False)), fn.dense(3, 2))
    params = layer.init(seeded(), dtype=torch.float32)
    batch = FLAT.float(), normal(N, 2, dtype=torch.float32)
    assert params[0] == () and fn.check(fn.explicit(fn.supervised(layer, fn.half_squared_error())), params, batch)


def test_mixed_precision_of_the_modules_own_is_kept():
    nn_module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    nn_module[0].bfloat16()
    layer = fn.module(nn_module)
    assert {leaf.dtype for leaf in fn.tree.leaves(layer.init(seeded()))} == {torch.bfloat16, torch.float64}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_grad_mode_of_the_caller_does_not_matter(mode):
    with mode():
        _, layer, params, x = made("residual")
        step_fn = fn.explicit(squares(layer))
        inside = step_fn(params, x.clone())
    assert same_bits(inside, step_fn(params, x))


def test_threads_do_not_meet_in_the_module():
    _, layer, params, x = made("mlp")
    step_fn, results = fn.explicit(squares(layer)), {}
    points = [fn.tree.map(lambda leaf, k=k: leaf + k, params) for k in range(4)]
    expected = [list(fn.train(step_fn, fn.sgd(0.1), point, [x] * 30))[-1].params for point in points]

    def work(k):
        results[k] = list(fn.train(step_fn, fn.sgd(0.1), points[k], [x] * 30))[-1].params

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same_bits(results[k], expected[k]) for k in range(4))


def test_a_rule_that_replaces_a_part_is_checked_where_it_stands():
    nn_module, _, _, x = made("mlp")
    wrong = fn.tanh()._replace(backward=lambda residuals, dy: ((), dy))
    for middle, right in ((fn.tanh(), True), (wrong, False)):
        layer = fn.serial(fn.module(nn_module[0]), middle, fn.module(nn_module[2]))
        params = layer.init(seeded())
        assert same_bits(layer(params, x), nn_module(x).detach())
        report = fn.check(fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy())), params, (x, labels(N, 3)))
        assert bool(report) is right
    assert "the derivative of the activation is missing in layer 1 of the network" in str(report)


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


class Writing(nn.Module):
    def forward(self, x):
        return x.mul_(2)


NORM, LINEAR = nn.BatchNorm1d(4).double(), nn.Linear(4, 3).double()


def called(nn_module, x=FLAT):
    layer = fn.module(nn_module)
    return lambda: layer(layer.init(seeded()), x)


# the call: (a function without arguments, the place, what was found, what is needed)
REFUSED = {
    "a class": (lambda: fn.module(nn.ReLU), "module(nn_module)", "a type", "torch.nn.ReLU()"),
    "one of our layers": (lambda: fn.module(fn.relu()), "module(nn_module)", "a Layer", "a torch.nn.Module"),
    "a lazy module": (lambda: fn.module(nn.LazyLinear(3)), "module(nn_module)", "the lazy 'weight'", "has run once"),
    "complex weights": (
        lambda: fn.module(nn.Linear(4, 3, dtype=torch.complex64)),
        "module(nn_module)",
        "'weight', shape (3, 4) of complex64",
        "floating",
    ),
    "an embedding that renormalises": (
        lambda: fn.module(nn.Sequential(nn.Embedding(3, 2, max_norm=1.0))),
        "module(nn_module)",
        "'0' with max_norm",
        "writes to its weights",
    ),
    "a generator": (lambda: fn.module(LINEAR).init(0), "generator", "0", "a torch.Generator"),
    "a dtype": (lambda: fn.module(LINEAR).init(seeded(), dtype=torch.int64), "dtype", "torch.int64", "floating"),
    "dropout that drops": (called(nn.Sequential(nn.Dropout(0.5))), "module(Sequential)", "draws random", "module.eval()"),
    "running statistics that run": (called(NORM), "module(BatchNorm1d)", "writes to 'num_batches_tracked'", ".eval()"),
    "a forward that writes": (called(Writing(), FLAT.clone()), "module(Writing)", "writes to its inputs", "pure"),
    "two inputs": (called(Two()), "inputs of module(Two)", "(6, 4)", "missing 1 required positional argument"),
    "two outputs": (called(nn.LSTM(4, 3).double()), "outputs of module(LSTM)", "a tuple", "wrap it"),
    "outputs of integers": (called(nn.Identity(), TOKENS), "outputs of module(Identity)", "int64", "floating"),
    "inputs too narrow": (called(LINEAR, FLAT[:, :3]), "inputs of module(Linear)", "(6, 3)", "shapes cannot be multiplied"),
    "inputs of another dtype": (called(LINEAR, FLAT.float()), "inputs of module(Linear)", "float32", "dtype"),
    "inputs in a list": (called(LINEAR, [1.0]), "inputs of module(Linear)", "a list", "dense tensor"),
    "a leaf missing": (lambda: fn.module(LINEAR)({"weight": normal(3, 4)}, FLAT), "params", "tree", "'bias'"),
    "a leaf of another shape": (
        lambda: fn.module(LINEAR)({"weight": normal(4, 3), "bias": normal(3)}, FLAT),
        "params['weight']",
        "(4, 3)",
        "(3, 4)",
    ),
    "None for the parameters": (lambda: fn.module(LINEAR)(None, FLAT), "params", "tree", "'bias'"),
    "dy of another shape": (
        lambda: fn.module(nn.Tanh()).backward(((), FLAT), FLAT[:2]),
        "dy",
        "(2, 4)",
        "shape (6, 4) of float64, as y",
    ),
    "dy that is none": (lambda: fn.module(nn.Tanh()).backward(((), FLAT), None), "dy", "None", "a dense tensor"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_name(name):
    call, *message = REFUSED[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)


# How a module that draws or writes is come upon: eagerly, by transforms, in a compiled step.
WAYS = {
    "explicit": lambda layer, p: fn.explicit(squares(layer))(p, FLAT),
    "func_grad": lambda layer, p: fn.func_grad(squares(layer))(p, FLAT),
    "autograd": lambda layer, p: fn.autograd(squares(layer))(p, FLAT),
    "differences": lambda layer, p: fn.finite_difference(squares(layer))(p, FLAT),
    "backward alone": lambda layer, p: layer.backward((p, FLAT), FLAT),
    "vmap": lambda layer, p: torch.func.vmap(lambda x: layer(p, x[None]))(FLAT),
    "compiled": lambda layer, p: next(fn.train(fn.func_grad(squares(layer)), fn.compiled(fn.sgd(0.1)), p, [FLAT])),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("way", WAYS)
def test_a_module_that_drops_is_refused_on_every_way_and_draws_nothing(way):
    layer = fn.module(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)))
    params, before = layer.init(seeded()), torch.get_rng_state()
    with pytest.raises(fn.InputError, match="draws random numbers"):
        WAYS[way](layer, params)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("way", [way for way in WAYS if way != "compiled"])
def test_so_is_one_that_updates_its_buffers(way):
    layer = fn.module(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, momentum=0.5)))
    params = layer.init(seeded())
    with pytest.raises(fn.InputError, match="writes to|Expected more than 1 value per channel"):
        WAYS[way](layer, params)
