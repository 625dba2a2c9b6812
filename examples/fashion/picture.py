"""Writes a test image of Fashion-MNIST as a PNG, to ask a model about.

  python3 examples/fashion/picture.py OUT.png [NUMBER] [FOLDER]     # the first image is an ankle boot, class 9
"""
import gzip
import pathlib
import struct
import sys
import zlib

FOLDER = "/usr/share/datasets/fashion-mnist"


def image(folder, number):
    """(height, width, bytes), one byte a pixel."""
    data = gzip.decompress((pathlib.Path(folder) / "t10k-images-idx3-ubyte.gz").read_bytes())
    _, count, height, width = struct.unpack(">4I", data[:16])
    if not 0 <= number < count:
        sys.exit(f"error: there are images 0 to {count - 1}, not {number}")
    start = 16 + number * height * width
    return height, width, data[start:start + height * width]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(height, width, pixels):
    rows = b"".join(b"\0" + pixels[row * width:(row + 1) * width] for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, grey
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main(out, number="0", folder=FOLDER):
    pathlib.Path(out).write_bytes(png(*image(folder, int(number))))


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 4:
        sys.exit(__doc__.strip())
    main(*sys.argv[1:])
