"""PNGs of 16 bits a channel: one that a decoder cannot stumble over, and one of any pixels.

torchvision's decoder ends the process at some damaged files, as libpng's way of reporting errors jumps over its
clean-up. What it is given is checked first, and written anew. Pillow writes 16 bits of grey alone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
#: The filter by which a line is told as the difference to the one above it.
_UP = 2
_INCHES_A_METRE = 1 / 0.0254
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


def deep_png(
    pixels: np.ndarray,
    *,
    icc_profile: bytes = b"",
    exif: bytes = b"",
    dpi: tuple[float, float] | None = None,
    pnginfo: PngInfo | None = None,
) -> bytes:
    """A PNG of 16 bits a channel.

    Args:
        pixels: (height, width, channels) of uint16; grey, grey and alpha, colour, or colour and alpha.
        icc_profile: of the colours.
        exif: notes of the camera, from the byte order on.
        dpi: pixels an inch, across and down.
        pnginfo: texts.
    """
    height, width, channels = pixels.shape
    kind = next(kind for kind, count in _CHANNELS.items() if count == channels)
    lines = np.ascontiguousarray(pixels, dtype=">u2").view(np.uint8).reshape(height, -1)
    told = np.full((height, 1 + lines.shape[1]), _UP, dtype=np.uint8)
    told[0, 1:] = lines[0]
    np.subtract(lines[1:], lines[:-1], out=told[1:, 1:])
    parts = [SIGNATURE, _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if icc_profile:
        parts.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile)))
    if dpi:
        x, y = (round(float(number) * _INCHES_A_METRE) for number in dpi)
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if exif:
        parts.append(_chunk(b"eXIf", exif))
    parts += [_chunk(name, data) for name, data, *_ in (pnginfo.chunks if pnginfo else ())]
    return b"".join([*parts, _chunk(b"IDAT", zlib.compress(told.tobytes())), _chunk(b"IEND", b"")])


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
