import gzip
import struct
import subprocess
import sys

import pytest
import torch
from helpers import same_bits, seeded
from hypothesis import given
from hypothesis import strategies as st

import funcnn as fn
from funcnn.data.idx import read_idx


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
    assert [part[0].shape for part in data[:2]] == [(6, 12), (4, 12)] and data.test[1].tolist() == [0, 1, 2, 3]
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
    "a file that is too long": (RAW, idx(IMAGES) + b"\x00", "", "more than 88 bytes, needs 88"),
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


def bomb(header, mebibytes):
    """A gzip file of a header and many zeros: of several members, as gzip allows."""
    return gzip.compress(header) + mebibytes * gzip.compress(bytes(2**20))


def announced(*shape):
    return bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape)


# name: (content, the ending of the file, what the error says, MiB that it may take)
HOSTILE = {
    "many more bytes than announced": (bomb(announced(6, 4, 3), 2**10), ".gz", "more than 88 bytes, needs 88", 8),
    "a wrong magic number before many zeros": (bomb(b"", 2**10), ".gz", "0x00000000, needs 0x00000803", 8),
    "more images than the bytes can hold": (bomb(announced(10**9, 28, 28), 16), ".gz", "needs 784000000016 for", 8),
    "more images than a raw file has bytes": (announced(10**9, 28, 28), "", "at most 16 bytes, needs 784000000016", 8),
    "sizes whose product leaves every range": (
        bomb(announced(*3 * [2**32 - 1]), 1),
        ".gz",
        f"needs {(2**32 - 1) ** 3 + 16}",
        8,
    ),
    "fewer bytes than announced, as many as could be": (
        bomb(announced(2**26, 1, 1), 63),
        ".gz",
        "66060304 bytes, needs 67108880",
        72,
    ),
}
MEASURED = """
import resource, sys, funcnn as fn
from funcnn.data.idx import read_idx
for path in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read_idx(path, 3)
    except fn.InputError as error:
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, error)
"""


def test_a_hostile_file_takes_no_more_memory_than_it_announces_and_can_hold(tmp_path):
    paths = [tmp_path / f"{index}{ending}" for index, (_, ending, _, _) in enumerate(HOSTILE.values())]
    for path, (content, _, _, _) in zip(paths, HOSTILE.values(), strict=True):
        path.write_bytes(content)
    told = subprocess.run([sys.executable, "-c", MEASURED, *paths], capture_output=True, text=True, check=True).stdout
    for line, path, (_, _, message, most) in zip(told.splitlines(), paths, HOSTILE.values(), strict=True):
        mebibytes, _, error = line.partition(" ")
        assert str(path) in error and message in error
        assert float(mebibytes) <= most, error


def test_what_is_announced_must_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("funcnn.memory.free_memory", lambda device: 2**28)
    (tmp_path / "images.gz").write_bytes(bomb(announced(300, 1024, 1024), 300))
    with pytest.raises(fn.InputError, match=r"images of shape \(300, 1024, 1024\) of 315 MB, needs at most the 268 MB"):
        read_idx(tmp_path / "images", 3)
