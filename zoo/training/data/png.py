"""A PNG that a decoder cannot stumble over.

torchvision's decoder ends the process at some damaged files, as libpng's way of reporting errors jumps over its
clean-up. What it is given is checked first, and written anew.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
# Adam7: where the pixels of each pass begin, and their distance: x, y, dx, dy.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def sound_png(content: bytes) -> bytes:
    """The same 16-bit picture with nothing in it but its pixels: header, data, end.

    Args:
        content: a PNG of 16 bits a channel, without palette.

    Raises:
        ValueError: a checksum, a length or a value that is not as it must be.
        zlib.error: data that cannot be unpacked.
    """
    header, packed = b"", bytearray()
    for name, data in _chunks(content):
        if name == b"IHDR":
            header = data
        elif name == b"IDAT":
            packed += data
    width, height, depth, kind, compression, filtering, interlaced = struct.unpack(">IIBBBBB", header)
    known = kind in _CHANNELS and depth == 16 and compression == filtering == 0 and interlaced in (0, 1)
    if not known or not width or not height:
        raise ValueError("its header makes no sense")
    limit = 2 * (Image.MAX_IMAGE_PIXELS or width * height)
    if width * height > limit:
        raise ValueError(f"{width} x {height} pixels; more than {limit} are not read")
    lines = list(_lines(width, height, interlaced, 2 * _CHANNELS[kind]))
    size = sum(count * length for count, length in lines)
    unpack = zlib.decompressobj()
    pixels = unpack.decompress(bytes(packed), size + 1)
    if len(pixels) != size or not unpack.eof:
        raise ValueError(f"{len(pixels)} bytes of pixels, expected {size}")
    place = 0
    for count, length in lines:
        if count and max(pixels[place : place + count * length : length]) > 4:
            raise ValueError("a line has an unknown filter")
        place += count * length
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(pixels, 1)) + _chunk(b"IEND", b"")


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place, name = len(SIGNATURE), b""
    while name != b"IEND":
        if place + 12 > len(content):
            raise ValueError("it is cut off")
        (length,) = struct.unpack(">I", content[place : place + 4])
        name, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        checksum = content[place + 8 + length : place + 12 + length]
        if checksum != struct.pack(">I", zlib.crc32(name + data)):
            raise ValueError(f"wrong checksum of {name!r}")
        yield name, data
        place += 12 + length


def _lines(width: int, height: int, interlaced: int, pixel: int) -> Iterator[tuple[int, int]]:
    """How many lines there are, and the bytes of each with its filter; a pair for each pass."""
    for x, y, dx, dy in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and rows > 0:
            yield rows, 1 + columns * pixel


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
