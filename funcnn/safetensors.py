"""Files of named tensors and a text, written whole or not at all, with a checksum; any reader of safetensors reads them.

offset     bytes  what
0          8      n, little-endian
8          n      JSON: of each tensor dtype, shape and place; under `__metadata__` {"funcnn": "2", "tree": the text}
8 + n      m      the numbers of the tensors, those of long dtypes first, so that all are aligned
8 + n + m  4      the last of the tensors, `checksum`, little-endian: see `checksums`; in files of "1" a CRC-32 of all before

https://huggingface.co/docs/safetensors. A checksum is no signature: who wants to can make a file with any numbers in it, but
no more than numbers.
"""

import json
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .checksums import SQUARE, plain, with_sums
from .errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

VERSION = "2"
SUMMED = {"1": plain, "2": with_sums}  # how the numbers of a file of this version come into its checksum
LONGEST = 2**24  # bytes of a header: what is parsed takes up to thirty times its own memory
BEGINNING = b'{"__metadata__":{"funcnn":'
NAMES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL", "complex64": "C64"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8"},
    **{"uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8"},
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"},
}
DTYPES: dict[torch.dtype, str] = {getattr(torch, dtype): name for dtype, name in NAMES.items()}
NAMED = {name: dtype for dtype, name in DTYPES.items()}


def as_bytes(x: Tensor) -> Tensor:
    """The bytes of a contiguous tensor, uint8."""
    return x.reshape(-1).view(torch.uint8)


def as_memory(x: Tensor) -> memoryview:
    """The same bytes, which Python may read and write."""
    numbers: Any = as_bytes(x).numpy()
    return memoryview(numbers)


def pieces(text: str, tensors: dict[str, Tensor]) -> Iterator[memoryview]:
    """The bytes of a file, piece by piece. Raises InputError where the header would be longer than `LONGEST`."""
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    header: dict[str, Any] = {"__metadata__": {"funcnn": VERSION, "tree": text}}
    end = 0
    for name, x in ordered:
        begin, end = end, end + x.nbytes
        header[name] = {"dtype": DTYPES[x.dtype], "shape": list(x.shape), "data_offsets": [begin, end]}
    header["checksum"] = {"dtype": "U8", "shape": [4], "data_offsets": [end, end + 4]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    if len(encoded) > LONGEST:
        raise InputError("tree", f"a structure of {len(encoded)} bytes in JSON", f"{LONGEST} at most: stack what is alike")
    beginning = memoryview(len(encoded).to_bytes(8, "little") + encoded)
    yield beginning
    checksum = plain(beginning, 0)
    for _, x in ordered:
        for piece in _cut(as_memory(x)):
            checksum = SUMMED[VERSION](piece, checksum)
            yield piece
    yield memoryview(checksum.to_bytes(4, "little"))


def _cut(whole: memoryview) -> Iterator[memoryview]:
    """Pieces to be summed while the cache still holds them."""
    return (whole[start : start + SQUARE] for start in range(0, len(whole), SQUARE))


def write(path: Path, text: str, tensors: dict[str, Tensor]) -> None:
    """Makes of the text and the tensors the file at the path, in place of what was there.

    They go into a file beside it, `.NAME.partial`, which is brought to the disk and takes the name at once. So a reader, and
    whoever comes after a crash, finds the old file or the new one, and of several writers the last one's. After a power cut
    it is the new one once `settle` was called, or some seconds have passed. The partial file is removed where writing fails;
    what a killed writer left of one is written over by the next.

    Raises:
        OSError: the folder cannot be written, or the disk is full. What was there is still there.
    """
    target = Path(os.path.realpath(path))  # a link goes on leading to its file
    try:
        with _partial(target) as (partial, file):
            try:
                for piece in pieces(text, tensors):
                    file.write(piece)
                    if len(piece) == SQUARE:
                        _begin_to_sync(file)
                file.flush()
                os.fsync(file.fileno())
                if os.name == "nt":
                    file.close()  # it renames no open file
                os.replace(partial, target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}; the file is as it was", str(path)) from error


@contextmanager
def _partial(target: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """The empty file beside the target, which has one writer at a time; the lock of a killed one is gone with it."""
    partial = target.with_name(f".{target.name}.partial")
    own = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.partial")
    while True:
        with partial.open("ab") as file:
            if partial != own and not _locked(file):
                partial.unlink()
                partial = own
                continue
            if _is_at(file, partial):  # and not what another writer has renamed since
                file.truncate(0)
                yield partial, file
                return


def _locked(file: BinaryIO) -> bool:
    """Whether nobody else writes to the file from now on. Some file systems have no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except (OSError, AttributeError):
        return False
    return True


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether the open file is the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _begin_to_sync(file: BinaryIO) -> None:
    """Lets the disk work at the last piece while the next one is summed, where the system takes such advice."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), file.tell() - SQUARE, SQUARE, os.POSIX_FADV_DONTNEED)


def settle(path: Path) -> None:
    """Brings the name of a file that was written to the disk."""
    if os.name == "posix":
        descriptor = os.open(Path(os.path.realpath(path)).parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Refused(Exception):
    """A file that is not taken; the words say what it is."""


def read(path: Path) -> tuple[str, dict[str, Tensor]]:
    """The text and the tensors of a file, every byte of which is read once.

    Raises:
        Refused: it is truncated, altered, foreign or newer.
        OSError: there is no such file, or it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise Refused("no regular file")
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            return _read(Reader(file), size)
        except EOFError:
            raise Refused(f"a truncated file, which ends at {size} bytes") from None
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError):
            raise Refused("an altered file, whose header makes no sense") from None


class Reader:
    """A file that is read from its beginning to its end once, and summed on the way."""

    def __init__(self, file: Any) -> None:
        """Nothing is read yet."""
        self.file, self.checksum = file, 0

    def into(self, memory: memoryview, summed: Callable[[memoryview, int], int] = plain) -> None:
        """Fills the memory. Raises EOFError where the file ends before."""
        for piece in _cut(memory):
            left = piece
            while len(left):
                count = self.file.readinto(left)
                if not count:
                    raise EOFError
                left = left[count:]
            self.checksum = summed(piece, self.checksum)

    def bytes(self, count: int) -> bytes:
        """The next bytes."""
        memory = bytearray(count)
        self.into(memoryview(memory))
        return bytes(memory)

    def check_end(self) -> None:
        """Raises Refused unless what follows is the checksum of all before, and then nothing."""
        expected = self.checksum.to_bytes(4, "little")
        if self.bytes(4) != expected or self.file.read(1):
            raise Refused("an altered file, which its checksum shows")


def _read(reader: Reader, size: int) -> tuple[str, dict[str, Tensor]]:
    beginning = reader.bytes(8)
    if beginning.startswith(b"PK\x03\x04"):
        raise Refused("a zip file, such as torch.save writes")
    length = int.from_bytes(beginning, "little")
    if not 2 <= length <= LONGEST:
        raise Refused("no safetensors file")
    encoded = reader.bytes(min(length, size - 8))
    if not encoded.startswith(BEGINNING[: len(encoded)]):
        kind = "a safetensors file without a tree of funcnn" if encoded.startswith(b'{"') else "no safetensors file"
        raise Refused(kind)
    if length > len(encoded):
        raise EOFError
    header = json.loads(encoded)
    metadata, (begin, end) = header.pop("__metadata__"), header.pop("checksum")["data_offsets"]
    if size < 8 + length + end:
        raise EOFError
    if metadata["funcnn"] not in SUMMED:
        raise Refused(f"a newer file, of format {metadata['funcnn']} where this funcnn knows {VERSION}")
    tensors = _allocated(header, begin)
    for x in tensors.values():
        reader.into(as_memory(x), SUMMED[metadata["funcnn"]])
    reader.check_end()
    return metadata["tree"], tensors


def _allocated(header: dict[str, Any], size: int) -> dict[str, Tensor]:
    """Memory for tensors that fill so many bytes of a file, one after another. Raises ValueError where they do not."""
    tensors: dict[str, Tensor] = {}
    place = 0
    for name, entry in header.items():
        dtype, shape = NAMED[entry["dtype"]], entry["shape"]
        count = math.prod(shape) * dtype.itemsize
        if entry["data_offsets"] != [place, place + count] or place + count > size:
            raise ValueError
        tensors[name] = torch.empty(shape, dtype=dtype, device="cpu")
        place += count
    if place != size:
        raise ValueError
    return tensors
