import math

import pytest
import torch
from helpers import labels, normal, same_bits, says, seeded
from hypothesis import given
from hypothesis import strategies as st

import funcnn as fn

# name: (loader, samples for training, for the test, features, shape of one target, its dtype, values of the targets)
TABLES = {
    "breast cancer": (fn.data.breast_cancer, 455, 114, 30, (1,), torch.float64, [0, 1]),
    "digits": (fn.data.digits, 1438, 359, 64, (), torch.int64, list(range(10))),
}
every_table = pytest.mark.parametrize("name", TABLES)


@every_table
def test_a_table_has_the_published_shapes(name):
    load, train, test, features, target, dtype, values = TABLES[name]
    data = load(generator=seeded())
    for (inputs, targets), count in zip(data[:2], (train, test), strict=True):
        assert inputs.shape == (count, features) and inputs.dtype == torch.float64
        assert targets.shape == (count, *target) and targets.dtype == dtype
        assert targets.unique().tolist() == values


def test_breast_cancer_has_212_malignant_and_357_benign_tumours():
    targets = torch.cat([targets for _, targets in fn.data.breast_cancer(generator=seeded())[:2]])
    assert [(targets == kind).sum() for kind in (0, 1)] == [212, 357]


@every_table
def test_the_training_part_has_mean_0_and_deviation_1_or_is_constantly_0(name):
    inputs, _ = TABLES[name][0](generator=seeded()).train
    deviation = inputs.std(0, correction=0)
    constant = deviation == 0
    assert torch.allclose(inputs.mean(0), torch.zeros(()), atol=1e-12)
    assert torch.allclose(deviation[~constant], torch.ones(()), atol=1e-12)
    assert (inputs[:, constant] == 0).all() and constant.sum() < inputs.shape[1] / 2


@every_table
def test_the_same_seed_gives_the_same_split_and_another_seed_another(name):
    first, again, other = (TABLES[name][0](generator=seeded(seed)) for seed in (0, 0, 1))
    assert same_bits(first, again) and not torch.equal(first.train[0], other.train[0])


@every_table
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_the_one_asked_for(name, dtype):
    data = TABLES[name][0](generator=seeded(), dtype=dtype)
    for inputs, targets in data[:2]:
        assert inputs.dtype == dtype and targets.dtype in (dtype, torch.int64)


@given(count=st.integers(2, 60), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 10**6))
def test_a_split_shows_every_sample_in_exactly_one_part(count, fraction, seed):
    tests = round(count * fraction)
    if not 0 < tests < count:
        return
    data = fn.data.split(normal(count, 2), torch.arange(count), generator=seeded(seed), test_fraction=fraction)
    assert len(data.test[1]) == tests
    assert sorted(torch.cat([data.train[1], data.test[1]]).tolist()) == list(range(count))


def arm(points, turns):
    """Which spiral each raw point is nearest to: of the angle that its radius should have, and of the opposite one."""
    radius = points.norm(dim=1)
    expected = 2 * math.pi * turns * (radius - 0.2) / 0.8
    return (torch.cos(torch.atan2(points[:, 1], points[:, 0]) - expected) < 0).long()


@pytest.mark.parametrize(("turns", "noise"), [(1.5, 0.02), (0.75, 0.0), (3.0, 0.01)])
def test_every_point_lies_on_the_arm_that_its_target_names(turns, noise):
    count = 200
    data = fn.data.spirals(count, generator=seeded(), turns=turns, noise=noise)
    drawn, generator = [], seeded()
    t = torch.rand(count, generator=generator)
    for k, at in enumerate(t.tolist()):
        r, a = 0.2 + 0.8 * at, math.pi * (2 * turns * at + k % 2)
        drawn.append([r * math.cos(a), r * math.sin(a)])
    points = torch.tensor(drawn) + noise * torch.randn(count, 2, generator=generator)
    assert torch.equal(arm(points, turns), torch.arange(count) % 2)
    same = fn.data.split(points, torch.arange(count) % 2, generator=generator)
    for (inputs, targets), (expected, arms) in zip(data[:2], same[:2], strict=True):
        assert torch.allclose(inputs, expected, atol=1e-12) and torch.equal(targets, arms)
    assert [len(part[1]) for part in data[:2]] == [160, 40] and sum((part[1] == 1).sum() for part in data[:2]) == count / 2


def test_spirals_are_the_same_for_the_same_seed_and_have_the_dtype_asked_for():
    first, again, other = (fn.data.spirals(50, generator=seeded(seed), dtype=torch.float32) for seed in (0, 0, 1))
    assert same_bits(first, again) and not torch.equal(first.train[0], other.train[0])
    assert first.train[0].dtype == torch.float32 and first.train[1].dtype == torch.int64


@pytest.mark.parametrize(
    ("place", "bad"),
    [("count", {"count": 0}), ("turns", {"turns": -1.0}), ("noise", {"noise": math.nan}), ("test_fraction", {"count": 2})],
)
def test_spirals_that_cannot_be_drawn_are_refused(place, bad):
    with pytest.raises(fn.InputError, match=f"^{place}: got"):
        fn.data.spirals(generator=seeded(), **bad)


def test_images_are_raw_and_in_the_order_of_their_axes():
    images, digits = fn.data.digit_images()
    assert images.shape == (1797, 8, 8) and images.dtype == torch.uint8 and images.unique().tolist() == list(range(17))
    assert digits.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    photographs = fn.data.photographs()
    assert photographs.shape == (2, 427, 640, 3) and photographs.dtype == torch.uint8
    bright, leafy = photographs[0].float().mean((1, 2)), photographs[1].float().mean((0, 1))
    assert bright[:100].mean() > 2 * bright[-100:].mean()  # sky above a temple
    assert leafy.argmax() == 1  # green around a flower


def test_digits_are_the_standardised_images():
    images, _ = fn.data.digit_images()
    flat = images.flatten(1).double()
    whole = torch.cat([inputs for inputs, _ in fn.data.digits(generator=seeded())[:2]])
    split = fn.data.split(flat, torch.arange(len(flat)), generator=seeded())
    assert torch.equal(whole, torch.cat([inputs for inputs, _ in split[:2]]))


def test_the_test_part_is_measured_by_the_training_part():
    inputs = 5 + 3 * normal(40, 2)
    data = fn.data.split(inputs, torch.arange(40), generator=seeded())
    train, test = inputs[data.train[1]], inputs[data.test[1]]
    assert torch.allclose(data.test[0], (test - train.mean(0)) / train.std(0, correction=0))


@every_table
def test_what_is_measured_later_is_standardised_as_the_training_part_was(name):
    load, dtype = TABLES[name][0], torch.float32
    data = load(generator=seeded(), dtype=dtype)
    raw = data.test[0].double() * data.std + data.mean
    again = data.standardised(raw)
    assert again.dtype == dtype and torch.allclose(again, data.test[0], atol=1e-5)
    assert torch.equal(data.standardised(raw[3]), again[3])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5,), (3, 5), ()], ids=str)
def test_the_mean_and_the_deviation_are_those_of_the_training_part(dtype, shape):
    inputs = (50 + 20 * normal(40, *shape)).to(dtype)
    data = fn.data.split(inputs, torch.arange(40), generator=seeded())
    train = inputs[data.train[1]].double()
    assert torch.allclose(data.mean, train.mean(0), rtol=1e-12)
    assert torch.allclose(data.std, train.std(0, correction=0), rtol=1e-12)
    for inputs_of_part, samples in (data.train, data.test):
        assert torch.equal(data.standardised(inputs[samples]), inputs_of_part)


def test_what_was_never_standardised_stays_as_it_is():
    part = normal(4, 3), torch.arange(4)
    data = fn.data.Dataset(part, part)
    assert torch.equal(data.standardised(part[0]), part[0])


# name: (what is to be standardised, beside features of shape (2,), what is found)
LATER = {
    "another number of features": (torch.zeros(4, 3), "shape (4, 3)"),
    "no axis": (torch.zeros(()), "shape ()"),
    "imaginary parts": (torch.zeros(4, 2, dtype=torch.complex128), "complex128"),
    "no tensor": ([1.0, 2.0], "a list"),
}


@pytest.mark.parametrize("name", LATER)
def test_what_cannot_be_standardised_is_refused(name, as_users_run_it):
    data, (inputs, found) = fn.data.split(normal(10, 2), torch.arange(10), generator=seeded()), LATER[name]
    with pytest.raises(fn.InputError) as caught:
        data.standardised(inputs)
    assert says(caught.value, "inputs", found, "real numbers of shape (..., 2)")


@given(value=st.floats(-1e6, 1e6), count=st.integers(3, 50))
def test_a_feature_that_never_changes_becomes_0(value, count):
    inputs = torch.stack([torch.full((count,), value), torch.arange(count).double()], 1)
    data = fn.data.split(inputs, torch.zeros(count), generator=seeded(), test_fraction=1 / 3)
    assert (data.train[0][:, 0] == 0).all() and (data.test[0][:, 0] == 0).all()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 1.5, 1e-6, math.nan, math.inf])
def test_a_split_leaves_neither_part_empty(fraction):
    with pytest.raises(fn.InputError, match="^test_fraction: got"):
        fn.data.split(normal(10, 2), labels(10, 2), generator=seeded(), test_fraction=fraction)


def test_a_split_needs_a_target_for_every_input():
    with pytest.raises(fn.InputError, match="^targets: got 9 samples, needs the 10"):
        fn.data.split(normal(10, 2), labels(9, 2), generator=seeded())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_split_refuses_what_is_not_finite(bad):
    inputs = normal(10, 2)
    inputs[3, 1] = bad
    with pytest.raises(fn.InputError, match="inputs: got NaN or infinite"):
        fn.data.split(inputs, labels(10, 2), generator=seeded())


@pytest.mark.parametrize("scale", [2.0**1000, 1e300, 1e200, 1e-200, 1e-300])
def test_numbers_near_the_ends_of_the_range_are_standardised_like_all_others(scale):
    inputs, targets = normal(20, 3), torch.arange(20)
    moderate, extreme = (fn.data.split(x, targets, generator=seeded()) for x in (inputs, scale * inputs))
    for (expected, _), (found, _) in zip(moderate[:2], extreme[:2], strict=True):
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_features_of_different_sizes_are_standardised_each_by_itself():
    sizes = torch.tensor([1e200, 1.0, 1e-200, 1e308])
    inputs = 1 + normal(20, 4).sigmoid()
    moderate, extreme = (fn.data.split(x, torch.arange(20), generator=seeded()) for x in (inputs, inputs / 2 * sizes))
    assert torch.allclose(extreme.train[0], moderate.train[0], rtol=1e-12, atol=1e-12)
    assert torch.allclose(extreme.test[0], moderate.test[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_split_refuses_imaginary_parts(dtype):
    with pytest.raises(fn.InputError, match="^inputs: got shape .* of complex.*, needs real numbers"):
        fn.data.split(normal(10, 2).to(dtype), labels(10, 2), generator=seeded())


def test_a_split_refuses_a_dtype_that_cannot_hold_it():
    with pytest.raises(fn.InputError, match="floating dtype"):
        fn.data.split(normal(10, 2), labels(10, 2), generator=seeded(), dtype=torch.int64)
