"""The IDX file format of MNIST (LeCun, Cortes & Burges), raw or gzipped.

offset  bytes  what
0       2      0
2       1      type of the entries; 8 is unsigned byte, the only one that MNIST-format files use
3       1      number of dimensions
4       4 each size of each dimension, big-endian
then           the entries, the last dimension fastest
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError

UNSIGNED_BYTE = 8


def read_idx(path: str | Path, dimensions: int) -> Tensor:
    """The uint8 tensor in an IDX file with that many dimensions; `path` may lack the `.gz` that the file has.

    Raises:
        FileNotFoundError: neither path nor path.gz is there.
        InputError: bad gzip, a bad magic number, another number of dimensions, or too few or too many bytes.
    """
    path = Path(path)
    zipped = path.with_name(path.name + ".gz")
    found = next((candidate for candidate in (path, zipped) if candidate.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{path}: no such file, nor {zipped.name}; needs an IDX file, raw or .gz")
    try:
        content = gzip.decompress(found.read_bytes()) if found.suffix == ".gz" else found.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(str(found), f"broken gzip data ({error})", "a whole .gz file") from None

    magic, header = bytes([0, 0, UNSIGNED_BYTE, dimensions]), 4 + 4 * dimensions
    if content[:4] != magic:
        raise InputError(str(found), f"the magic number 0x{content[:4].hex()}", f"0x{magic.hex()}")
    if len(content) < header:
        raise InputError(str(found), f"{len(content)} bytes", f"a header of {header}")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) != header + math.prod(shape):
        raise InputError(
            str(found), f"{len(content)} bytes", f"{header + math.prod(shape)} for the shape {shape} it announces"
        )
    entries = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    return entries[header:].reshape(shape)
