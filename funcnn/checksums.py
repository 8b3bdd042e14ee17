"""The checksum of numbers that are many: a CRC-32, but of sums where there is a MiB of them or more.

zlib takes a CRC of 2 GB in a second, where a disk's cache and memory give ten times as many. So every whole MiB is laid out
as 256 rows of 512 words of 8 bytes, a row to a page, and in its place goes into the CRC what its rows and its columns add up
to, modulo 2^64. What is left of the numbers goes in as it is.

    a CRC-32         sees every change of up to 32 bits in a row, and of others all but one in 2^32
    rows, columns    are changed by every change of up to three words, wherever they lie, since one of these has a row or a
                     column for itself; by a row that is lost, zero, repeated or another's; by two words exchanged

What leaves all sums as they are is not seen: words at the four corners of a rectangle, two of them larger and two smaller by
the same number; or whole rows exchanged that add up to the same.
"""

from zlib import crc32

import numpy as np

ROWS, COLUMNS = 256, 512
SQUARE = 8 * ROWS * COLUMNS


def plain(piece: memoryview, checksum: int) -> int:
    """The CRC-32 with one piece more."""
    return crc32(piece, checksum)


def with_sums(piece: memoryview, checksum: int) -> int:
    """The checksum with one piece more, of a MiB or, at the end of the numbers, of what is left."""
    if len(piece) < SQUARE:
        return crc32(piece, checksum)
    words = np.frombuffer(piece, np.dtype("<u8")).reshape(ROWS, COLUMNS)
    return crc32(words.sum(0), crc32(words.sum(1), checksum))
