"""On an accelerator everything is as on the processor: the same gradients, verdicts, masks, steps and files."""

from functools import partial

import planting
import pytest
import torch
import torch.distributed as dist
from distributed.there import CASES, every_case, trained
from helpers import TOLERANCES, assert_close, normal, same_bits, seeded
from optimizers.test_conformance import BATCHES, OBJECTIVE, OURS, PARAMS
from planting import leaf, only, planted
from tables import LAYERS, LOSSES, layer_scene, loss_scene
from together import together

import funcnn as fn

if not torch.accelerator.is_available():
    pytest.skip("there is no accelerator", allow_module_level=True)

THERE = torch.accelerator.current_accelerator()
TRAINED = [name for name in LAYERS if fn.tree.leaves(LAYERS[name].layer.init(seeded()))]
PAIRS = [(p, name) for p in fn.PROVIDERS for name in LAYERS if LAYERS[name].analytic or p != "complex_step"]
every_layer = pytest.mark.parametrize("name", LAYERS)
# Of torch's own, where the first product of a process is in a backward pass.
pytestmark = pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS, but there was no current CUDA context")


def there(tree):
    return fn.tree.map(lambda leaf: leaf.to(THERE) if isinstance(leaf, torch.Tensor) else leaf, tree)


def here(tree):
    return fn.tree.map(lambda leaf: leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf, tree)


def scene(name):
    layer, params, *batch = layer_scene(name)
    return fn.supervised(layer, fn.half_squared_error()), params, tuple(batch)


@pytest.mark.parametrize(("provider", "name"), PAIRS, ids=map(", ".join, PAIRS))
def test_every_provider_gives_the_gradient_of_every_layer(provider, name):
    objective, params, batch = scene(name)
    value, grads = fn.PROVIDERS[provider](objective)(there(params), there(batch))
    assert all(leaf.device.type == THERE.type for leaf in fn.tree.leaves((value, grads)))
    expected = fn.func_grad(objective)(params, batch)
    assert_close(here((value, grads)), expected, TOLERANCES[provider])


@pytest.mark.parametrize("make", [fn.spsa, fn.forward_gradient, partial(fn.evolution, sigma=1e-5)])
def test_orthogonal_directions_as_many_as_parameters_give_the_gradient(make):
    count = fn.tree.ravel(PARAMS)[0].numel()
    found = make(OBJECTIVE, seeded(), samples=count, orthogonal=True)(there(PARAMS), there(BATCHES[0]))
    assert_close(here(found), fn.explicit(OBJECTIVE)(PARAMS, BATCHES[0]), 1e-8)


@pytest.mark.parametrize("loss", LOSSES)
def test_and_of_every_loss(loss):
    objective, params, batch, _ = loss_scene(loss)
    found = fn.explicit(objective)(there(params), there(batch))
    assert_close(here(found), fn.explicit(objective)(params, batch), TOLERANCES["explicit"])


@pytest.mark.parametrize("name", TRAINED)
def test_the_check_calls_every_layer_right(name):
    objective, params, batch = scene(name)
    report = fn.check(fn.explicit(objective), there(params), there(batch))
    assert report, str(report)


@every_layer
def test_the_laws_of_every_layer_hold(name):
    layer, params, x, _ = layer_scene(name)
    report = fn.laws(layer, there(params), there(x))
    assert report, str(report)


PLANTED = {
    "sign": leaf(0, "w", torch.neg),
    "factor 2": leaf(0, "w", lambda g: 2 * g),
    "factor N": leaf(2, "w", lambda g: g * 8),
    "bias reduction": leaf(2, "b", lambda g: g / 8),
    "zero": leaf(2, "w", torch.zeros_like),
    "single entry": leaf(0, "w", only((2, 3), torch.neg)),
    "single row": leaf(0, "w", only(1, torch.neg)),
    "permuted": leaf(2, "w", lambda g: g.flip(0)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_mistakes_are_named_as_on_the_processor(name):
    step_fn, operands = planted(PLANTED[name]), (planting.PARAMS, planting.BATCH)
    ours, moved = fn.check(step_fn, *operands), fn.check(step_fn, *there(operands))
    assert not ours.ok and not moved.ok
    assert [f.cause for f in ours.leaves.values()] == [f.cause for f in moved.leaves.values()], str(moved)


@pytest.mark.parametrize("name", [name for name in LAYERS if not LAYERS[name].mixes and "mixes" not in name])
def test_the_gradients_of_the_samples(name):
    objective, params, batch = scene(name)
    step_fn = fn.explicit(objective)
    for of in (fn.per_sample, fn.per_sample_norms, lambda step_fn: fn.per_sample_clip(step_fn, 0.1)):
        assert_close(here(of(step_fn)(there(params), there(batch))), of(step_fn)(params, batch), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", TRAINED)
def test_the_check_in_the_precisions_of_training(name, dtype):
    layer, params, *batch = layer_scene(name, dtype)
    report = fn.check(fn.explicit(fn.supervised(layer, fn.half_squared_error())), there(params), there(tuple(batch)))
    assert report, str(report)


@pytest.mark.parametrize("row", OURS.values(), ids=OURS)
def test_every_optimizer_walks_the_same_way(row):
    ours = [*fn.train(fn.explicit(OBJECTIVE), row.make(row.lr), PARAMS, BATCHES)][-1]
    moved = [*fn.train(fn.explicit(OBJECTIVE), row.make(row.lr), there(PARAMS), there(BATCHES))][-1]
    assert_close(here(moved.params), ours.params, 1e-6 if row.eager else 1e-9)  # searches end at the root of rounding


@pytest.mark.parametrize("row", [row for row in OURS.values() if not row.eager], ids=[n for n in OURS if not OURS[n].eager])
def test_and_compiled_too(row):
    ours = [*fn.train(fn.explicit(OBJECTIVE), row.make(row.lr), PARAMS, BATCHES)]
    compiled = fn.compiled(row.make(row.lr))
    moved = [*fn.train(fn.explicit(OBJECTIVE), compiled, there(PARAMS), there(BATCHES))]
    assert_close(here([step.params for step in moved]), [step.params for step in ours], 1e-9)


def test_steps_without_a_gradient_are_those_of_its_estimate():
    estimate = fn.forward_gradient(OBJECTIVE, seeded(4), by="differences")
    expected = [*fn.train(estimate, fn.sgd(0.01), there(PARAMS), there(BATCHES))]
    ours = [*fn.train(fn.explicit(OBJECTIVE), fn.mezo(seeded(4), 0.01), there(PARAMS), there(BATCHES))]
    assert_close(ours[-1].params, expected[-1].params, 1e-9)


@pytest.mark.parametrize("make", [fn.spsa, fn.forward_gradient, fn.evolution])
def test_estimators_are_called_right_and_twice_one_wrong(make):
    right = make(OBJECTIVE, seeded(), samples=4)

    def twice(params, batch):
        value, grads = right(params, batch)
        return value, fn.tree.map(lambda g: 2 * g, grads)

    reference, operands = fn.explicit(OBJECTIVE), (there(PARAMS), there(BATCHES[0]))
    report = fn.check_estimator(right, reference, *operands, draws=256)
    assert report, str(report)
    report = fn.check_estimator(twice, reference, *operands, draws=4096)
    assert not report, str(report)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.usefixtures("as_users_run_it")
def test_ranks_end_as_one_process_does(ranks, tmp_path):
    """Two share the accelerator over gloo; one alone has the backend of its own."""
    if ranks == 2:
        found = together("distributed.there", "every_case", 2, tmp_path)
    else:
        backend = dist.get_default_backend_for_device(THERE)
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        found = [every_case(0, 1, tmp_path)]
        dist.destroy_process_group()
    for name in CASES:
        expected = trained(name, THERE, False)
        assert all(same_bits(end[name], found[0][name]) for end in found)
        assert_close(found[0][name], expected, 1e-7 if name == "differences" else 1e-11)


def test_dropout_has_the_same_masks():
    layer = fn.with_dropout(fn.serial(fn.dense(4, 5), fn.dropout(0.5), fn.dense(5, 3)))
    params, pair = layer.init(seeded(), dtype=torch.float64), fn.with_seeds(normal(5, 4), seeded(1))
    assert_close(here(layer(there(params), there(pair))), layer(params, pair), 1e-14)


@pytest.mark.parametrize("where", ["cpu", THERE.type])
def test_fit_goes_on_from_a_checkpoint_bit_for_bit(where, tmp_path):
    def fit(epochs, **options):
        return fn.fit(
            fn.explicit(OBJECTIVE),
            fn.adam(0.01),
            there(PARAMS),
            there(BATCHES[0]),
            epochs=epochs,
            batch_size=2,
            generator=torch.Generator(where).manual_seed(0),
            **options,
        )

    file = tmp_path / "run"
    fit(2, checkpoint=file)
    whole, resumed = fit(4), fit(4, checkpoint=file)
    assert same_bits(here((whole.params, whole.state)), here((resumed.params, resumed.state)))


def test_what_is_saved_comes_back_where_it_is_wanted(tmp_path):
    fn.save(tmp_path / "file", there(PARAMS))
    assert same_bits(fn.load(tmp_path / "file"), PARAMS)


def test_operands_on_two_devices_are_refused():
    with pytest.raises(fn.InputError, match="needs .* on "):
        fn.explicit(OBJECTIVE)(there(PARAMS), BATCHES[0])
