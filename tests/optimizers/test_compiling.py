import warnings

import pytest
import torch
from helpers import assert_close, labels, normal, same_bits, seeded
from planting import scene
from tables import LAYERS, layer_scene

import funcnn as fn
from funcnn import kernels
from funcnn.providers.doors import lifted

OBJECTIVE, PARAMS, BATCH = scene()
STEP_FN, SGD = fn.explicit(OBJECTIVE), fn.sgd(0.5)


def one_step(step_fn, optimizer, params, batch, **options):
    (step,) = fn.train(step_fn, optimizer, params, [batch], **options)
    return step


@pytest.fixture
def compilations(monkeypatch):
    """How often something is compiled: what comes out is the graph itself, which costs nothing."""
    graphs = []

    def inductor(graph, inputs, options=None):
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch._inductor, "compile", inductor)
    return graphs


@pytest.mark.parametrize("provider", ["func_grad", "autograd", "central_difference"])
def test_any_provider_can_be_compiled(provider, compilations):
    objective, params, batch = scene((2, 3, 2))
    step_fn = fn.PROVIDERS[provider](objective)
    assert_close(one_step(step_fn, fn.compiled(SGD), params, batch), one_step(step_fn, SGD, params, batch), 1e-9)
    assert len(compilations) == 1


@pytest.mark.parametrize("step_fn", [STEP_FN, lambda params, batch: STEP_FN(params, batch)], ids=["a StepFn", "a function"])
def test_fit_takes_a_compiled_optimizer_as_it_is(step_fn, compilations):
    data, options = (normal(12, 3), labels(12, 2)), {"epochs": 3, "batch_size": 5}
    eager, fast = (
        fn.fit(step_fn, optimizer, PARAMS, data, generator=seeded(), **options)
        for optimizer in (fn.adam(0.05), fn.compiled(fn.adam(0.05)))
    )
    assert_close((fast.params, fast.state, fast.history.losses), (eager.params, eager.state, eager.history.losses), 1e-12)
    assert len(compilations) == 2  # for batches of 5, and for the last of each epoch, of 2


def test_every_shape_layout_and_step_function_gets_code_of_its_own_and_only_once(compilations):
    optimizer, given = fn.compiled(SGD), fn.tree.clone((PARAMS, BATCH))
    shorter, turned = (
        tuple(leaf[:5] for leaf in BATCH),
        fn.tree.map(torch.Tensor.contiguous, PARAMS),
    )
    other = fn.func_grad(OBJECTIVE)
    single = fn.tree.map(lambda x: x.float() if x.is_floating_point() else x, (PARAMS, BATCH))
    doubled = fn.StepFn(
        OBJECTIVE.value, lambda *point: (OBJECTIVE.value(*point), fn.tree.map(torch.neg, STEP_FN(*point)[1]))
    )
    cases = [
        (STEP_FN, PARAMS, BATCH),
        (STEP_FN, PARAMS, shorter),
        (STEP_FN, turned, BATCH),
        (STEP_FN, PARAMS, (BATCH[0].T.contiguous().T, BATCH[1])),
        (STEP_FN, *single),
        (other, PARAMS, BATCH),
        (doubled, PARAMS, BATCH),
    ]
    for _ in range(2):
        for step_fn, params, batch in cases:
            expected = one_step(step_fn, SGD, params, batch)
            assert_close(one_step(step_fn, optimizer, params, batch), expected, 1e-6 if params is single[0] else 1e-13)
    assert len(compilations) == len(cases) and same_bits((PARAMS, BATCH), given)


def test_a_plain_function_is_found_again(compilations):
    def plain(params, batch):
        return STEP_FN(params, batch)

    optimizer = fn.compiled(SGD)
    first, second = (one_step(plain, optimizer, PARAMS, BATCH) for _ in range(2))
    assert len(compilations) == 1 and same_bits(first, second)
    with pytest.raises(fn.InputError, match="grads"):
        one_step(lambda params, batch: (plain(params, batch)[0], ()), optimizer, PARAMS, BATCH)


def test_a_plain_function_with_another_value_is_another(compilations):
    step_fn = lifted(lambda params, batch: STEP_FN(params, batch))
    doubled = step_fn._replace(value=lambda *point: 2 * OBJECTIVE.value(*point))
    optimizer, value = fn.compiled(stepping((), lambda state: state)), OBJECTIVE.value(PARAMS, BATCH)
    for given, expected in ((step_fn, value), (doubled, 2 * value)):
        assert_close(one_step(given, optimizer, PARAMS, BATCH).value, expected, 1e-14)


def test_every_layer_does_in_a_compiled_step_what_it_does_in_an_eager_one(compilations):
    # Not that which is for evaluation, and closes over its statistics.
    scenes = [layer_scene(name) for name in LAYERS if name != "batch norm, calibrated"]
    steps = [fn.explicit(fn.supervised(layer, fn.half_squared_error())) for layer, *_ in scenes]

    def side_by_side(params, batch):
        values, grads = zip(*(step(*point) for step, *point in zip(steps, params, batch, strict=True)), strict=True)
        return torch.stack(values).sum(), grads

    params, batch = tuple(scene[1] for scene in scenes), tuple(tuple(scene[2:]) for scene in scenes)
    expected = one_step(side_by_side, SGD, params, batch)
    assert_close(one_step(side_by_side, fn.compiled(SGD), params, batch), expected, 1e-12)
    assert len(compilations) == 1


def test_two_compiled_optimizers_do_not_share_code(compilations):
    for optimizer in (fn.sgd(0.5), fn.sgd(0.25)):
        expected = one_step(STEP_FN, optimizer, PARAMS, BATCH)
        assert_close(one_step(STEP_FN, fn.compiled(optimizer), PARAMS, BATCH), expected, 1e-13)


def stacked(steps):
    batches = [(normal(5, 3, seed=k), labels(5, 2, seed=k)) for k in range(steps)]
    return batches, tuple(torch.stack(leaves) for leaves in zip(*batches, strict=True))


def test_several_steps_in_one_call_are_those_of_train():
    batches, together = stacked(3)
    expected = list(fn.train(STEP_FN, fn.momentum(0.1), PARAMS, batches))
    scan = fn.compiled_scan(STEP_FN, fn.momentum(0.1))
    result = scan(PARAMS, None, together)
    assert isinstance(result, fn.Scan)
    assert_close((result.params, result.state), (expected[-1].params, expected[-1].state), 1e-13)
    assert_close(result.values, torch.stack([step.value for step in expected]), 1e-13)


def test_scans_go_on_from_one_another_whatever_their_length(compilations):
    batches, together = stacked(5)
    expected = list(fn.train(STEP_FN, fn.adam(0.1), PARAMS, batches))
    scan = fn.compiled_scan(STEP_FN, fn.adam(0.1))
    first = scan(PARAMS, None, tuple(leaf[:3] for leaf in together))
    second = scan(first.params, first.state, tuple(leaf[3:] for leaf in together))
    assert_close((second.params, second.state), (expected[-1].params, expected[-1].state), 1e-13)
    assert len(first.values) == 3 and len(second.values) == 2 and len(compilations) == 2


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    "batches",
    [(), None, (torch.ones(3), torch.ones(3)), ([1.0],), (torch.ones(3, 2, 3), torch.ones(2, 2)), (torch.ones(0, 2, 3),)],
    ids=["nothing", "None", "no samples", "a list", "two lengths", "no batches"],
)
def test_a_scan_refuses_what_is_not_stacked(batches, compilations):
    with pytest.raises(fn.InputError, match="^batch"):
        fn.compiled_scan(STEP_FN, SGD)(PARAMS, (), batches)


def test_large_products_in_float32_keep_their_accuracy(monkeypatch):
    monkeypatch.setattr(kernels, "zen", lambda: 5 * torch.backends.mkldnn.is_available())
    layer = fn.mlp((128, 128, 10))
    step_fn = fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy()))
    params, batch = layer.init(seeded(), dtype=torch.float32), (normal(128, 128, dtype=torch.float32), labels(128, 10))
    exact = one_step(step_fn, SGD, layer.init(seeded(), dtype=torch.float64), (batch[0].double(), batch[1]))
    result = one_step(step_fn, fn.compiled(SGD), params, batch)
    assert_close(fn.tree.map(torch.Tensor.double, result.params), exact.params, 1e-6)


def test_without_a_compiler_a_warning_says_so_and_the_numbers_are_the_same():
    objective, params, batch = scene((3, 5, 2))
    step_fn, optimizer = fn.explicit(objective), fn.compiled(SGD)
    without = {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    with torch._inductor.config.patch(without), pytest.warns(UserWarning, match=r"no C\+\+ compiler"):
        result = one_step(step_fn, optimizer, params, batch)
    assert_close(result, one_step(step_fn, SGD, params, batch), 1e-15)
    assert same_bits(one_step(step_fn, optimizer, params, batch), result)


def test_a_label_out_of_range_never_gives_a_number():
    optimizer = fn.compiled(SGD)
    one_step(STEP_FN, optimizer, PARAMS, BATCH)
    for label in (2, -1, -100):
        with pytest.raises(fn.InputError, match="labels and tokens in range"):
            one_step(STEP_FN, optimizer, PARAMS, (BATCH[0], torch.full_like(BATCH[1], label)))


def test_a_check_of_values_compiles_to_nan():
    layer = fn.perceptron(3)
    step_fn, optimizer = fn.explicit(fn.supervised(layer, fn.binary_cross_entropy())), fn.compiled(SGD)
    params, inputs, targets = layer.init(seeded()), normal(4, 3), torch.ones(4, 1)
    expected = one_step(step_fn, SGD, params, (inputs, targets))
    assert_close(one_step(step_fn, optimizer, params, (inputs, targets)), expected, 1e-13)
    assert one_step(step_fn, optimizer, params, (inputs, 2 * targets)).value.isnan()


def test_tracked_parameters_by_hand_give_plain_results(compilations):
    optimizer, at = fn.compiled(SGD), fn.At(STEP_FN, BATCH)
    result = optimizer.step(at, fn.tree.map(lambda leaf: leaf.clone().requires_grad_(), PARAMS), ())
    assert not any(leaf.requires_grad for leaf in fn.tree.leaves(result))
    assert_close(result, optimizer.step(at, PARAMS, ()), 1e-14)


def looks(at, params, state):
    value, grads = at(params)
    return fn.Step(fn.tree.add(params, grads) if value > 1 else params, (), value)


WEIGHTS = torch.ones(4)
CLOSING = fn.func_grad(fn.Objective(lambda params, batch: (params["w"] * WEIGHTS).sum()))
ONES, SCALARS = {"w": torch.ones(4)}, fn.tree.map(lambda leaf: torch.ones(()), PARAMS)
NONE = ({**PARAMS[0], "w": None}, *PARAMS[1:])


def stepping(state, step):
    """An optimizer that does nothing, with a state of its own."""
    return fn.Optimizer(lambda params: state, lambda at, params, state: fn.Step(params, step(state), at.value(params)))


def valued(value):
    return fn.Optimizer(lambda params: (), lambda at, params, state: fn.Step(params, (), value))


COUNTING = fn.Transformation(lambda params: 0, lambda grads, state, params=None: (grads, state + 1))
# name: (step_fn, optimizer, params, state, what the error says)
REFUSED = {
    "a line search": (STEP_FN, fn.line_search(), PARAMS, None, "tensors alone"),
    "an optimizer that looks at values": (
        STEP_FN,
        fn.Optimizer(lambda params: (), looks),
        PARAMS,
        None,
        "without looking at values",
    ),
    "parameters that are none": (STEP_FN, SGD, NONE, None, r"params\[0\]\['w'\].*floating tensor"),
    "weights that it closes over": (CLOSING, SGD, ONES, None, "takes every tensor as an argument"),
    "the state of others": (STEP_FN, fn.momentum(0.1), PARAMS, SCALARS, "^state"),
    "a number for a state": (STEP_FN, COUNTING, PARAMS, None, "state: got 0, needs dense tensors alone"),
    "a number in the state": (
        STEP_FN,
        stepping({"t": 0.5}, lambda state: state),
        PARAMS,
        None,
        "state: got 0.5, needs dense tensors alone",
    ),
    "a number in the state that it returns": (
        STEP_FN,
        stepping({"t": torch.zeros(())}, lambda state: {"t": 3}),
        PARAMS,
        None,
        r"step.state\['t'\]: got 3, needs a tensor|step\[1\]\['t'\]: got 3, needs a tensor",
    ),
    "a number for the value": (STEP_FN, valued(0.5), PARAMS, None, "got 0.5, needs a tensor"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", REFUSED)
def test_what_compiled_code_would_freeze_is_refused(name, compilations):
    step_fn, optimizer, params, state, message = REFUSED[name]
    with pytest.raises(fn.InputError, match=message):
        fast = fn.compiled(optimizer)
        fast.step(fn.At(step_fn, BATCH), params, fast.init(params) if state is None else state)
    assert not compilations


ODD = {
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.strided),
    "jagged": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
    "sparse": lambda: torch.eye(3).to_sparse(),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("place", ["params", "batch", "state"])
@pytest.mark.parametrize("kind", ODD)
def test_a_tensor_without_strides_is_refused_in_one_line(kind, place, compilations):
    with warnings.catch_warnings(action="ignore"):  # torch calls them prototypes
        odd = ODD[kind]()
    optimizer, given = fn.compiled(fn.momentum(0.1)), {"params": PARAMS, "batch": BATCH, "state": fn.tree.zeros_like(PARAMS)}
    for _ in range(2):
        optimizer.step(fn.At(STEP_FN, given["batch"]), given["params"], given["state"])
    given[place] = (odd, BATCH[1]) if place == "batch" else ({**PARAMS[0], "w": odd}, *PARAMS[1:])
    with pytest.raises(fn.InputError, match=f"^{place}") as caught:
        optimizer.step(fn.At(STEP_FN, given["batch"]), given["params"], given["state"])
    assert "\n" not in str(caught.value) and len(compilations) == 1


@pytest.mark.usefixtures("as_users_run_it")
def test_what_is_no_optimizer_and_what_is_no_point_are_refused():
    with pytest.raises(fn.InputError, match="optimizer_fn"):
        fn.compiled(3)
    with pytest.raises(fn.InputError, match="^at: got a function, needs At"):
        fn.compiled(SGD).step(lambda params: STEP_FN(params, BATCH), PARAMS, ())


def test_a_sign_that_a_tensor_keeps_as_a_bit_counts():
    w = torch.complex(torch.zeros(2), -torch.ones(2)).conj().imag
    assert w.is_neg()
    step_fn, batch = fn.func_grad(fn.Objective(lambda w, x: (w**3 * x).sum())), torch.ones(1)
    ours, eager = (next(fn.train(step_fn, one, w, [batch])) for one in (fn.compiled(fn.sgd(0.1)), fn.sgd(0.1)))
    assert torch.allclose(ours.params, eager.params) and torch.allclose(ours.value, eager.value)
