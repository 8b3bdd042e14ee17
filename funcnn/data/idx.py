"""The IDX file format of MNIST (LeCun, Cortes & Burges), raw or gzipped.

offset  bytes  what
0       2      0
2       1      type of the entries; 8 is unsigned byte, the only one that MNIST-format files use
3       1      number of dimensions
4       4 each size of each dimension, big-endian
then           the entries, the last dimension fastest

A file is not trusted: its header is read first, and then as many entries as the header announces, in pieces. A few
MiB of gzip can hold GiBs of zeros, so that what is unpacked is never more than what was announced, and what is announced
never more than the file can hold: gzip's method, deflate, spends 2 bits on 258 bytes at best, 1 byte on 1032.
"""

import gzip
import math
import struct
import zlib
from io import BufferedIOBase
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..memory import check_memory

UNSIGNED_BYTE = 8
MOST_OF_A_BYTE = 1032
PIECE = 2**20


def read_idx(path: str | Path, dimensions: int) -> Tensor:
    """The uint8 tensor in an IDX file with that many dimensions; `path` may lack the `.gz` that the file has.

    Raises:
        FileNotFoundError: neither path nor path.gz is there.
        InputError: bad gzip, a bad magic number, another number of dimensions, too few or too many bytes, or more than there
            is memory for.
    """
    path = Path(path)
    zipped = path.with_name(path.name + ".gz")
    found = next((candidate for candidate in (path, zipped) if candidate.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{path}: no such file, nor {zipped.name}; needs an IDX file, raw or .gz")
    with found.open("rb") as file:
        if found.suffix != ".gz":
            return _read(file, found, dimensions, most=found.stat().st_size)
        try:
            with gzip.open(file) as unpacked:
                return _read(unpacked, found, dimensions, most=MOST_OF_A_BYTE * found.stat().st_size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(str(found), f"broken gzip data ({error})", "a whole .gz file") from None


def _read(file: BufferedIOBase, path: Path, dimensions: int, most: int) -> Tensor:
    """The entries of an open file that holds at most so many bytes."""
    magic, length = bytes([0, 0, UNSIGNED_BYTE, dimensions]), 4 + 4 * dimensions
    header = file.read(length)
    if header[:4] != magic:
        raise InputError(str(path), f"the magic number 0x{header[:4].hex()}", f"0x{magic.hex()}")
    if len(header) < length:
        raise InputError(str(path), f"{len(header)} bytes", f"a header of {length}")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    needs = f"{length + math.prod(shape)} for the shape {shape} it announces"
    if length + math.prod(shape) > most:
        raise InputError(str(path), f"at most {most} bytes", needs)
    check_memory(str(path), f"images of shape {shape}", math.prod(shape))
    entries = torch.empty(math.prod(shape), dtype=torch.uint8, device="cpu")
    memory, done = entries.numpy().data, 0
    while piece := file.read(min(PIECE, len(memory) - done)):
        memory[done : done + len(piece)] = piece
        done += len(piece)
    if done < len(memory):
        raise InputError(str(path), f"{length + done} bytes", needs)
    if file.read(1):  # which reads gzip's checksum too
        raise InputError(str(path), f"more than {length + done} bytes", needs)
    return entries.reshape(shape)
