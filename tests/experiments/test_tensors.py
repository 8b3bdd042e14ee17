import json

import pytest
import torch
from helpers import normal, seeded

import funcnn as fn
from experiments import __main__ as command_line
from experiments.core.options import Options
from experiments.tensors import Tensors, broadcasting, kinds, operations, slices


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensors")
    command_line.run_one("tensors", Tensors(output=folder, batch_size=300))
    return json.loads((folder / "tensors" / "result.json").read_text())


@pytest.fixture(scope="module")
def data():
    return kinds.kinds(window=50, frames=5, options=Options())


def test_there_is_a_tensor_of_every_rank_from_0_to_5(found):
    ranks = found["numbers"]["ranks"]
    assert [rank for rank, _, _ in ranks.values()] == [0, 1, 2, 3, 4, 5]
    assert all(len(shape) == rank for rank, shape, _ in ranks.values())
    assert {dtype for _, _, dtype in ranks.values()} == {"uint8", "float64"}


def test_the_four_kinds_of_data_have_their_axes(data):
    shapes = {name: tuple(tensor.shape) for name, tensor in data.items()}
    assert shapes == {
        "vector": (455, 30),
        "time series": (2 * 24, 50, 3),
        "image": (2, 427, 640, 3),
        "video": (2, 5, 213, 320, 3),
    }
    assert {name: axes.count(",") + 1 for name, axes in kinds.AXES.items()} == {n: len(s) for n, s in shapes.items()}


def test_a_sample_of_the_time_series_is_a_window_of_a_scan_line(data):
    photographs = fn.data.photographs().double()
    for sample, (photograph, start) in enumerate((p, 25 * k) for p in range(2) for k in range(24)):
        window = photographs[photograph, kinds.ROW, start : start + 50]
        assert torch.equal(data["time series"][sample], window)


def test_each_frame_of_a_video_is_a_crop_a_bit_further_on(data):
    photographs = fn.data.photographs()
    for k in range(5):
        top, left = 213 * k // 5, 320 * k // 5
        assert torch.equal(data["video"][:, k], photographs[:, top : top + 213, left : left + 320])


def test_the_slices_are_the_corner_and_the_centre_and_copy_nothing(found):
    parts = found["numbers"]["slices"]
    assert [part["shape"] for part in parts.values()] == [[90, 28, 28], [90, 14, 14], [90, 14, 14]]
    assert not any(part["copies"] for part in parts.values())
    x = torch.arange(101 * 28 * 28).reshape(101, 28, 28)
    whole, corner, centre = (x[chosen] for chosen in slices.SLICES.values())
    assert torch.equal(whole[0], x[10])
    assert corner[0, 0, 0] == x[10, 14, 14] and corner[-1, -1, -1] == x[99, 27, 27]
    assert centre[0, 0, 0] == x[10, 7, 7] and centre[-1, -1, -1] == x[99, 20, 20]


def test_the_digits_are_enlarged_threefold_in_a_margin():
    large, (small, _) = slices.digits(), fn.data.digit_images()
    assert large.shape == (1797, 28, 28) and large.max() == 1
    for row, column in ((0, 0), (1, 2), (2, 1)):
        assert torch.equal(large[:, 2 + row : 26 : 3, 2 + column : 26 : 3] * 16, small.double())
    assert large.sum() == 9 * small.double().sum() / 16  # so that the margin is empty


@pytest.mark.parametrize(
    ("size", "sizes"), [(128, [128] * 14 + [5]), (599, [599] * 3), (1797, [1797]), (5000, [1797]), (1796, [1796, 1])]
)
def test_batches_are_the_whole_with_a_short_last_one(size, sizes):
    x = torch.arange(1797)
    batches = slices.batches(x, size)
    assert [len(batch) for batch in batches] == sizes
    assert torch.equal(torch.cat(batches), x)


def test_the_report_says_how_long_the_last_batch_is(found):
    assert found["numbers"]["batches"] == [300] * 5 + [297]
    assert "6 batches of 300, the last one with 297; put together they are the whole again" in found["observations"][2]


def test_every_operation_is_what_its_formula_says(found):
    cases = operations.cases(seeded())
    expected = {"element-wise", "dot product", "contraction", "reduction", "reshape", "broadcasting"}
    assert cases.keys() == expected and all(len(each) > 1 for each in cases.values())
    assert max(found["numbers"]["differences"].values()) < 1e-14


def test_an_operation_that_is_not_what_its_formula_says_is_found_out():
    x = normal(3, 2)
    assert operations.Case("x", x, "x[i,j]", lambda i, j: x[i, j]).difference() == 0
    assert operations.Case("x", x, "2 x[i,j]", lambda i, j: 2 * x[i, j]).difference() > 0.1
    assert operations.Case("x.T", x.T, "x[i,j]", lambda i, j: x[j, 0]).difference() > 0.1
    with pytest.raises(TypeError):
        operations.Case("x.sum(0)", x.sum(0), "x[i,j]", lambda i, j: x[i, j]).difference()


def test_broadcasting_is_repetition_to_the_bit(found):
    equal = found["numbers"]["broadcasting equals repetition"]
    assert len(equal) >= 4 and all(equal.values())
    assert equal == broadcasting.equalities(seeded(), dtype=torch.float32)
    assert f"In {len(equal)} of {len(equal)} cases" in found["observations"][-1]


@pytest.mark.parametrize(
    ("flag", "bad"), [("--batch-size", "0"), ("--window", "0"), ("--window", "641"), ("--frames", "201"), ("--frames", "-1")]
)
def test_bad_options_get_one_line_and_exit_code_2(capsys, flag, bad):
    assert command_line.main(["tensors", flag, bad]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and flag.strip("-").replace("-", "_") in complaint


def test_the_longest_window_and_the_most_frames_fit(data):
    longest = kinds.kinds(window=640, frames=1, options=Options())
    assert longest["time series"].shape == (2, 640, 3) and longest["video"].shape == (2, 1, 213, 320, 3)
    assert kinds.kinds(window=1, frames=2, options=Options())["time series"].shape == (1280, 1, 3)
