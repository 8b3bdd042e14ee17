"""What is saved is loaded with the same types and bits; what is not whole, or not ours, is refused by name."""

import errno
import json
import math
import os
import pickle
import subprocess
import sys
import threading
import zlib
from collections import OrderedDict, namedtuple
from pathlib import Path

import pytest
import torch
from helpers import normal, seeded

import funcnn as fn
from funcnn.optimizers.transformations import AdamState
from funcnn.storage import RECORDS

pytestmark = pytest.mark.usefixtures("as_users_run_it")

Mine = namedtuple("Mine", ["a", "b"], defaults=[3])
DTYPES = {x for x in vars(torch).values() if isinstance(x, torch.dtype) and (x.is_floating_point or x.is_complex)}
DTYPES |= {getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)}
DTYPES -= {getattr(torch, "float4_e2m1fn_x2", None)}  # two numbers in a byte
BYTES = torch.randint(256, (64,), generator=seeded(), dtype=torch.uint8)
TREE = ({"w": normal(3, 2), "b": normal(2)}, (), {"steps": 3})


def same(x, y):
    """The same types all the way down, the same bits, axes in the same order in memory."""
    if type(x) is not type(y):
        return False
    if isinstance(x, torch.Tensor):
        bits = (leaf.contiguous().flatten().view(torch.uint8) for leaf in (x, y))
        return (x.dtype, x.shape, x.stride()) == (y.dtype, y.shape, y.stride()) and torch.equal(*bits)
    if isinstance(x, torch.Generator):
        return x.device == y.device and torch.equal(x.get_state(), y.get_state())
    if isinstance(x, dict):
        return list(x) == list(y) and list(map(type, x)) == list(map(type, y)) and all(same(x[key], y[key]) for key in x)
    if isinstance(x, tuple | list):
        return len(x) == len(y) and all(map(same, x, y))
    return x.hex() == y.hex() if isinstance(x, float) else x == y


TREES = {
    "a tensor": normal(3, 2),
    "parameters": TREE,
    "nothing": (),
    "containers": [(), [], {}, OrderedDict(b=1, a=(2,)), {"z": {"y": None}}, ((), ((),))],
    "keys": {1: "a", "1": "b", True + 1: "c", "": "d", "checksum": 2, "a'b\"\n\0": 3, -(2**70): 4},
    "numbers": [0, -1, 2**62, 2**63, -(2**63), 10**30, True, False, 0.1, -0.0, 5e-324, math.inf, -math.inf, math.nan, 1e308],
    "strings": ["", "é", "\0", "\ud800", "𝔘" * 3, "tree"],
    "a generator": seeded(5),
    "a generator on its way": (lambda g: (torch.randn(3, generator=g), g)[1])(seeded(5)),
    "records": fn.Fit(TREE, AdamState(TREE, TREE, torch.zeros(())), fn.History(normal(3), [3], {"a": [1.0]})),
    "no numbers": [torch.zeros(0), torch.zeros(3, 0, 2), torch.zeros(())],
    "layouts": [
        normal(3, 2).T,
        normal(2, 3, 4).permute(1, 2, 0),
        normal(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    ],
    "not numbers": torch.tensor([0x7FF8000000000123, 0x7FF0000000000001, -1], dtype=torch.int64).view(torch.float64),
    **{str(dtype): BYTES.view(dtype) for dtype in sorted(DTYPES, key=str)},
    "torch.bool": torch.tensor([True, False]),
}


@pytest.mark.parametrize("name", TREES)
def test_what_is_saved_is_loaded_with_its_types_and_bits(name, tmp_path):
    fn.save(tmp_path / "tree", TREES[name])
    assert same(fn.load(tmp_path / "tree"), TREES[name])
    fn.save(str(tmp_path / "again"), fn.load(str(tmp_path / "tree")))
    assert (tmp_path / "again").read_bytes() == (tmp_path / "tree").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["again", "tree"]


def test_views_are_saved_as_the_numbers_that_they_show(tmp_path):
    x = torch.randn(4, 4, generator=seeded(), dtype=torch.complex128)
    views = [x[1:, ::2], x.conj(), x.conj().imag, x[:1].expand(5, 4), torch.nn.Parameter(x), x.real.requires_grad_()]
    fn.save(tmp_path / "tree", views)
    for loaded, view in zip(fn.load(tmp_path / "tree"), views, strict=True):
        assert type(loaded) is torch.Tensor and torch.equal(loaded, view) and not loaded.requires_grad


def test_loaded_tensors_share_no_memory(tmp_path):
    x = normal(3)
    fn.save(tmp_path / "tree", [x, x, x[:2]])
    first, second, third = fn.load(tmp_path / "tree")
    first.zero_()
    assert torch.equal(second, x) and torch.equal(third, x[:2])


def test_records_of_ones_own_are_loaded_by_those_who_have_them(tmp_path):
    path = tmp_path / "tree"
    fn.save(path, Mine(normal(2), {"x": Mine(1)}))
    assert same(fn.load(path, kinds=[Mine]), Mine(normal(2), {"x": Mine(1)}))
    assert same(fn.load(path, kinds=[namedtuple("Mine", "a b c", defaults=[0])])[1]["x"][1:], (3, 0))
    others = [namedtuple("Mine", "a"), namedtuple("Mine", "a b c")]
    for kinds, message in [([], "got no Mine, needs the NamedTuple of that name, with the fields a, b")] + [
        ([kind], "needs one with the fields a, b") for kind in others
    ]:
        with pytest.raises(fn.InputError, match=message):
            fn.load(path, kinds=kinds)


def contained():
    tree = [1]
    tree.append(tree)
    return tree


def test_every_record_that_torch_may_load_is_known_to_us_too():
    ours = {record for record in torch.serialization.get_safe_globals() if record.__module__.startswith("funcnn.")}
    assert ours and ours == set(RECORDS)


# name: (a tree that cannot be saved, the place, what was found)
NOT_SAVED = {
    "a function": ({"f": print}, "tree['f']", "a builtin_function"),
    "a number of another kind": ((1, [1j]), "tree[1][0]", "complex"),
    "a set": ([{1}], "tree[0]", "a set"),
    "a subclass": ([type("Own", (dict,), {})()], "tree[0]", "a Own"),
    "a key": ({"a": {(1, 2): 3}}, "tree['a']", "the key (1, 2)"),
    "a sparse tensor": ([normal(2, 2).to_sparse()], "tree[0]", "sparse"),
    "a nested tensor": ([torch.nested.nested_tensor([normal(2)], layout=torch.jagged)], "tree[0]", "a NestedTensor"),
    "a tensor without numbers": ([torch.empty(2, device="meta")], "tree[0]", "shape (2,)"),
    "a subclass of tensors": ([normal(2).as_subclass(type("Own", (torch.Tensor,), {}))], "tree[0]", "a Own"),
    "another AdamState": ([namedtuple("AdamState", "m")(1)], "tree[0]", "a AdamState other than funcnn's"),
    "itself": (contained(), "tree", "never ends"),
    "a long header": (["x" * 2**24], "tree", "a structure of 167"),
}


@pytest.mark.parametrize("name", NOT_SAVED)
def test_what_cannot_be_kept_is_named_and_the_old_file_stays(name, tmp_path):
    tree, place, found = NOT_SAVED[name]
    fn.save(tmp_path / "tree", TREE)
    with pytest.raises(fn.InputError) as caught:
        fn.save(tmp_path / "tree", tree)
    assert caught.value.place == place and found in str(caught.value)
    assert same(fn.load(tmp_path / "tree"), TREE) and os.listdir(tmp_path) == ["tree"]


ARGUMENTS = {
    "a number for a path": (lambda path: fn.save(3, TREE), "path"),
    "bytes for a path": (lambda path: fn.load(os.fsencode(path)), "path"),
    "no class": (lambda path: fn.load(path, kinds=[3]), "kinds"),
    "no NamedTuple": (lambda path: fn.load(path, kinds=dict), "kinds"),
    "two of one name": (lambda path: fn.load(path, kinds=[Mine, namedtuple("Mine", "a")]), "kinds"),
    "ours of another make": (lambda path: fn.load(path, kinds=[namedtuple("History", "a")]), "kinds"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_looked_at(name, tmp_path):
    call, place = ARGUMENTS[name]
    fn.save(tmp_path / "tree", TREE)
    with pytest.raises(fn.InputError, match=f"^{place}: got "):
        call(tmp_path / "tree")


def file_of(tree, folder):
    fn.save(folder / "whole", tree)
    return (folder / "whole").read_bytes()


def parts(data):
    """A file as the documentation says it, by none of the library's code: (header, numbers)."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def assembled(header, numbers):
    """Such a file, with the right checksum."""
    text = json.dumps(header, separators=(",", ":")).encode()
    data = len(text).to_bytes(8, "little") + text + numbers[:-4]
    return data + zlib.crc32(data).to_bytes(4, "little")


def test_the_file_is_what_the_documentation_of_safetensors_says(tmp_path):
    data = file_of(TREE, tmp_path)
    header, numbers = parts(data)
    assert header.pop("__metadata__").keys() == {"funcnn", "tree"} and data[-4:] == zlib.crc32(data[:-4]).to_bytes(
        4, "little"
    )
    assert (len(data) - len(numbers)) % 8 == 0
    last = 0
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert begin == last, "a hole"
        last = end
        if name != "checksum":
            x = torch.frombuffer(bytearray(numbers[begin:end]), dtype={"F64": torch.float64}[entry["dtype"]])
            assert torch.equal(x.reshape(entry["shape"]), eval(name, {"tree": TREE}))
    assert last == len(numbers) and header.keys() == {"tree[0]['w']", "tree[0]['b']", "checksum"}


def refused(data, folder):
    (folder / "file").write_bytes(data)
    with pytest.raises(fn.InputError) as caught:
        fn.load(folder / "file")
    assert caught.value.place == str(folder / "file") and caught.value.needs.endswith("that fn.save wrote")
    return str(caught.value.got)


def test_a_file_that_is_cut_anywhere_is_refused_as_truncated(tmp_path):
    data = file_of(TREE, tmp_path)
    for length in range(len(data)):
        assert f"a truncated file, which ends at {length} bytes" == refused(data[:length], tmp_path)


def test_a_file_with_any_byte_altered_is_refused(tmp_path):
    data = file_of(({"w": normal(2)}, 0.5, 7, "text", [True]), tmp_path)
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1 << place % 8
        assert refused(bytes(altered), tmp_path)
    for longer in (data + b"\0", data + data):
        assert "altered" in refused(longer, tmp_path)


def changed(data, **changes):
    """A file whose header says something else, under a right checksum."""
    header, numbers = parts(data)
    for name, value in changes.items():
        if name in ("funcnn", "tree"):
            header["__metadata__"][name] = value
        else:
            next(iter([entry for key, entry in header.items() if key.startswith("tree")]))[name] = value
    return assembled(header, numbers)


# name: (what a well-formed header says, what the error says)
LIES = {
    "a newer file": ({"funcnn": "3"}, "a newer file, of format 3 where this funcnn knows 2"),
    "no version": ({"funcnn": ["2"]}, "makes no sense"),
    "an enormous tensor": ({"shape": [2**40]}, "makes no sense"),
    "more than there is": ({"shape": [2**40], "data_offsets": [0, 2**43]}, "makes no sense"),
    "a negative shape": ({"shape": [-1, -2]}, "makes no sense"),
    "an unknown dtype": ({"dtype": "F7"}, "makes no sense"),
    "no JSON": ({"tree": "print(1)"}, "cannot be built"),
    "no tree": ({"tree": '["exec", "print(1)"]'}, "cannot be built"),
    "a tensor that is not there": ({"tree": '["tensor", "tree[5]", {}]'}, "cannot be built"),
    "a key that is none": ({"tree": '["dict", [["list"], 1]]'}, "cannot be built"),
    "an endless depth": ({"tree": '["list",' * 10**5 + "1" + "]" * 10**5}, "cannot be built"),
    "a strange generator": ({"tree": '["generator", "cpu", "tree[0]"]'}, "cannot be built"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_says_what_is_not_so_is_refused(name, tmp_path):
    changes, message = LIES[name]
    assert message in refused(changed(file_of([normal(2)], tmp_path), **changes), tmp_path)


class Dangerous:
    def __reduce__(self):
        return os.mkdir, ("executed",)


FOREIGN = {
    "of torch.save": ("a zip file", lambda path: torch.save(TREE, path)),
    "a pickle": ("no safetensors file", lambda path: path.write_bytes(pickle.dumps(Dangerous()))),
    "a text": ("no safetensors file", lambda path: path.write_text("some text that is longer than eight bytes")),
    "zeros": ("no safetensors file", lambda path: path.write_bytes(bytes(100))),
    "other safetensors": (
        "without a tree",
        lambda path: path.write_bytes(
            (62).to_bytes(8, "little") + b'{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}' + bytes(20)
        ),
    ),
    "a folder": ("no regular file", lambda path: path.mkdir()),
    "a pipe": ("no regular file", os.mkfifo),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_others_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message, write = FOREIGN[name]
    write(tmp_path / "file")
    with pytest.raises(fn.InputError, match=message):
        fn.load(tmp_path / "file")
    assert not (tmp_path / "executed").exists()


def test_what_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        fn.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="the file is as it was"):
        fn.save(tmp_path / "nowhere" / "tree", TREE)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(failing, tmp_path, monkeypatch):
    fn.save(tmp_path / "tree", TREE)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left on device; the file is as it was"):
        fn.save(tmp_path / "tree", ())
    assert same(fn.load(tmp_path / "tree"), TREE) and os.listdir(tmp_path) == ["tree"]


def test_a_link_goes_on_leading_to_its_file(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "tree")
    fn.save(tmp_path / "link", TREE)
    assert (tmp_path / "link").is_symlink() and same(fn.load(tmp_path / "tree"), TREE)


def test_of_writers_at_the_same_time_one_is_left_whole(tmp_path):
    trees = [{"writer": k, "x": torch.full((1000,), float(k))} for k in range(4)]

    def write(tree):
        for _ in range(10):
            fn.save(tmp_path / "tree", tree)
            loaded = fn.load(tmp_path / "tree")
            assert any(same(loaded, one) for one in trees)

    failed = []
    threading.excepthook, before = (lambda found: failed.append(found.exc_value)), threading.excepthook
    threads = [threading.Thread(target=write, args=[tree]) for tree in trees]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    threading.excepthook = before
    assert not failed and os.listdir(tmp_path) == ["tree"]


KILLED = """
import os, signal, sys, torch, funcnn as fn
from funcnn import safetensors
def cut(structure, tensors, whole=safetensors.pieces):
    yield next(whole(structure, tensors))
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
safetensors.pieces = cut
fn.save(sys.argv[1], torch.zeros(10**6))
"""


def test_what_a_killed_writer_leaves_does_no_harm(tmp_path):
    fn.save(tmp_path / "tree", TREE)
    code = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "tree")], cwd=Path(fn.__file__).parents[1]
    ).returncode
    assert code == -9 and len(os.listdir(tmp_path)) == 2 and same(fn.load(tmp_path / "tree"), TREE)
    fn.save(tmp_path / "tree", ())
    assert fn.load(tmp_path / "tree") == () and os.listdir(tmp_path) == ["tree"]


MIB = 2**20
LARGE = [
    torch.randint(-(2**31), 2**31, (3 * 10**5,), generator=seeded(), dtype=torch.int64).to(torch.int32),
    normal(200_000),
]


def sums(mib):
    """What a MiB adds up to, 256 rows of 512 words of 8 bytes, by Python's own numbers."""
    words = [int.from_bytes(mib[i : i + 8], "little") for i in range(0, MIB, 8)]
    rows, columns = [words[i : i + 512] for i in range(0, len(words), 512)], [words[i::512] for i in range(512)]
    return b"".join((sum(line) % 2**64).to_bytes(8, "little") for line in (*rows, *columns))


def test_of_large_tensors_the_sums_of_rows_and_columns_are_in_the_checksum(tmp_path):
    data = file_of(LARGE, tmp_path)
    header, numbers = parts(data)
    checksum = zlib.crc32(data[: len(data) - len(numbers)])
    for name, entry in header.items():
        if name not in ("__metadata__", "checksum"):
            own = numbers[slice(*entry["data_offsets"])]
            pieces = [own[i : i + MIB] for i in range(0, len(own), MIB)]
            for piece in pieces:
                checksum = zlib.crc32(sums(piece) if len(piece) == MIB else piece, checksum)
    assert data[-4:] == checksum.to_bytes(4, "little") and same(fn.load(tmp_path / "whole"), LARGE)


ROW, COLUMN, BOTH = (7, [9, 11]), ([7, 8], 9), ([7, 8], [9, 11])
CORNERS = ([7, 7, 8], [9, 11, 9])

# name: (some of the words (256, 512) of the first MiB, what becomes of them)
ALTERATIONS = {
    "a bit": ((7, 9), lambda x: x ^ 1),
    "the highest bits of a row": (ROW, lambda x: x ^ -(2**63)),
    "the highest bits of a column": (COLUMN, lambda x: x ^ -(2**63)),
    "two words of a row exchanged": (ROW, lambda x: x.flip(0)),
    "two words of a column exchanged": (COLUMN, lambda x: x.flip(0)),
    "two words exchanged": (BOTH, lambda x: x.flip(0)),
    "two rows exchanged": ([7, 8], lambda x: x.flip(0)),
    "a row twice": ([7, 8], lambda x: x[[0, 0]]),
    "a row of zeros": (7, lambda x: 0 * x),
    "three words": (CORNERS, lambda x: x + torch.tensor([1, -1, -1])),
    "three highest bits": (CORNERS, lambda x: x ^ -(2**63)),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_alterations_of_large_tensors_are_seen(name, tmp_path):
    where, change = ALTERATIONS[name]
    data = file_of(LARGE, tmp_path)
    start = len(data) - len(parts(data)[1])
    words = torch.frombuffer(bytearray(data[start : start + MIB]), dtype=torch.int64).reshape(256, 512)
    words[where] = change(words[where].clone())
    whole = data[:start] + words.numpy().tobytes() + data[start + MIB :]
    assert whole != data and refused(whole, tmp_path) == "an altered file, which its checksum shows"


# name: (a tree, what its file says in the first format)
FIRST = {
    "small tensors": (TREE, {}),
    "large ones": (LARGE, {}),
    "another order of axes": (normal(2, 3).T, {"tree": '["tensor", "tree", {"order": [1, 0]}]'}),
}


@pytest.mark.parametrize("name", FIRST)
def test_files_of_the_first_format_are_loaded(name, tmp_path):
    tree, changes = FIRST[name]
    data = file_of(tree.contiguous() if changes else tree, tmp_path)
    (tmp_path / "old").write_bytes(changed(data, funcnn="1", **changes))
    assert same(fn.load(tmp_path / "old"), tree)


def test_numbers_lie_in_the_file_as_in_memory_under_a_name_that_says_so(tmp_path):
    tree = {"w": normal(4, 3).T, "k": normal(2, 3, 4).permute(1, 2, 0), "gap": normal(4, 6)[:, ::2]}
    data = file_of(tree, tmp_path)
    header, numbers = parts(data)
    names = ["tree['gap']", "tree['k'].permute(2, 0, 1)", "tree['w'].permute(1, 0)"]
    assert sorted(header)[2:] == names and same(fn.load(tmp_path / "whole")["k"], tree["k"])
    for name in names:
        x = torch.frombuffer(bytearray(numbers[slice(*header[name]["data_offsets"])]), dtype=torch.float64)
        assert torch.equal(x.reshape(header[name]["shape"]), eval(name, {"tree": tree}))
