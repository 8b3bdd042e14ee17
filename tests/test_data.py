import gzip
import math
import struct

import pytest
import torch
from helpers import labels, normal, same_bits, seeded
from hypothesis import given
from hypothesis import strategies as st

import funcnn as fn
from funcnn.idx import read_idx

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
    for (inputs, targets), count in zip(data, (train, test), strict=True):
        assert inputs.shape == (count, features) and inputs.dtype == torch.float64
        assert targets.shape == (count, *target) and targets.dtype == dtype
        assert targets.unique().tolist() == values


def test_breast_cancer_has_212_malignant_and_357_benign_tumours():
    targets = torch.cat([targets for _, targets in fn.data.breast_cancer(generator=seeded())])
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
    for inputs, targets in data:
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
    for (inputs, targets), (expected, arms) in zip(data, same, strict=True):
        assert torch.allclose(inputs, expected, atol=1e-12) and torch.equal(targets, arms)
    assert [len(part[1]) for part in data] == [160, 40] and sum((part[1] == 1).sum() for part in data) == count / 2


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
    whole = torch.cat([inputs for inputs, _ in fn.data.digits(generator=seeded())])
    split = fn.data.split(flat, torch.arange(len(flat)), generator=seeded())
    assert torch.equal(whole, torch.cat([inputs for inputs, _ in split]))


def test_the_test_part_is_measured_by_the_training_part():
    inputs = 5 + 3 * normal(40, 2)
    data = fn.data.split(inputs, torch.arange(40), generator=seeded())
    train, test = inputs[data.train[1]], inputs[data.test[1]]
    assert torch.allclose(data.test[0], (test - train.mean(0)) / train.std(0, correction=0))


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


def idx(tensor):
    """The bytes of an IDX file that holds this uint8 tensor."""
    header = bytes([0, 0, 8, tensor.ndim]) + struct.pack(f">{tensor.ndim}I", *tensor.shape)
    return header + bytes(tensor.flatten().tolist())


def pixels(*shape, seed=0):
    return torch.randint(256, shape, generator=seeded(seed), dtype=torch.uint8)


@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=4), zipped=st.booleans(), seed=st.integers(0, 10**6))
def test_what_is_written_as_idx_is_read_again(shape, zipped, seed, tmp_path_factory):
    path, tensor = tmp_path_factory.mktemp("idx") / "file", pixels(*shape, seed=seed)
    if zipped:
        path.with_name("file.gz").write_bytes(gzip.compress(idx(tensor)))
    else:
        path.write_bytes(idx(tensor))
    assert same_bits(read_idx(path, dimensions=len(shape)), tensor)


IMAGES, LABELS = pixels(6, 4, 3), torch.tensor([0, 1, 2, 3, 4, 9], dtype=torch.uint8)


def write_mnist(folder, zipped=False):
    for part, count in (("train", 6), ("t10k", 4)):
        for name, tensor in (("images-idx3-ubyte", IMAGES[:count]), ("labels-idx1-ubyte", LABELS[:count])):
            content = idx(tensor)
            path = folder / f"{part}-{name}{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.mark.parametrize("zipped", [False, True])
def test_a_directory_in_the_format_of_mnist_is_a_data_set(tmp_path, zipped):
    write_mnist(tmp_path, zipped)
    images, targets = fn.data.read_images(tmp_path, "train")
    assert torch.equal(images, IMAGES.reshape(6, 12)) and torch.equal(targets, LABELS.long())
    data = fn.data.mnist(str(tmp_path))
    assert [part[0].shape for part in data] == [(6, 12), (4, 12)] and data.test[1].tolist() == [0, 1, 2, 3]
    flat = IMAGES.reshape(6, 12).double()
    assert torch.allclose(data.test[0], (flat[:4] - flat.mean(0)) / flat.std(0, correction=0))


RAW, LABEL_FILE = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"

# name: (file, its content or None to delete it, its new ending, what the error must say besides the name of the file)
DAMAGE = {
    "a missing file": (RAW, None, "", "needs an IDX file"),
    "another magic number": (RAW, b"\x00\x00\x0d\x03" + idx(IMAGES)[4:], "", "0x00000d03, needs 0x00000803"),
    "another number of dimensions": (RAW, idx(LABELS), "", "0x00000801, needs 0x00000803"),
    "an empty file": (RAW, b"", "", "needs 0x00000803"),
    "a header cut short": (RAW, idx(IMAGES)[:10], "", "10 bytes, needs a header of 16"),
    "a truncated file": (RAW, idx(IMAGES)[:-5], "", "83 bytes, needs 88"),
    "a file that is too long": (RAW, idx(IMAGES) + b"\x00", "", "89 bytes, needs 88"),
    "a truncated gzip file": (RAW, gzip.compress(idx(IMAGES))[:-20], ".gz", "needs a whole .gz file"),
    "a gzip file with broken bytes": (RAW, gzip.compress(idx(IMAGES))[:30] + b"xxxx" * 9, ".gz", "needs a whole .gz file"),
    "raw bytes under .gz": (RAW, idx(IMAGES), ".gz", "needs a whole .gz file"),
    "gzip without the .gz": (RAW, gzip.compress(idx(IMAGES)), "", "needs 0x00000803"),
    "fewer labels than images": (LABEL_FILE, idx(LABELS[:5]), "", "5 labels, needs 6"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_named_with_what_was_expected(name, tmp_path):
    file, content, ending, message = DAMAGE[name]
    path = write_mnist(tmp_path) / file
    path.unlink()
    if content is not None:
        path.with_name(file + ending).write_bytes(content)
    with pytest.raises(FileNotFoundError if content is None else fn.InputError) as caught:
        fn.data.mnist(tmp_path)
    assert str(path) in str(caught.value) and message in str(caught.value)


def test_the_test_images_must_be_as_large_as_those_for_training(tmp_path):
    for part, size in (("train", 2), ("t10k", 1)):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(torch.zeros(3, size, size, dtype=torch.uint8)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(torch.zeros(3, dtype=torch.uint8)))
    with pytest.raises(fn.InputError, match="t10k images: got 1 pixels each, needs the 4"):
        fn.data.mnist(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(torch.zeros(0, 2, 2, dtype=torch.uint8)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(torch.zeros(0, dtype=torch.uint8)))
    with pytest.raises(fn.InputError, match="no images"):
        fn.data.read_images(tmp_path, "train")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_split_refuses_what_is_not_finite(bad):
    inputs = normal(10, 2)
    inputs[3, 1] = bad
    with pytest.raises(fn.InputError, match="inputs: got NaN or infinite"):
        fn.data.split(inputs, labels(10, 2), generator=seeded())


def test_a_split_refuses_a_dtype_that_cannot_hold_it():
    with pytest.raises(fn.InputError, match="floating dtype"):
        fn.data.split(normal(10, 2), labels(10, 2), generator=seeded(), dtype=torch.int64)
