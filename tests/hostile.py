"""Pictures and masks that somebody made to harm, or a program by mistake; and a program that takes
them all and says what that cost.

    python -m tests.hostile --pictures 1000 --masks 1000
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dgan_backend.errors import DganError
from dgan_backend.labelstudio import brush
from dgan_backend.labelstudio.binding import bind
from dgan_backend.labelstudio.config import parse_config
from dgan_backend.labelstudio.regions import to_label_map
from dgan_backend.pictures import PictureError, decode_picture
from tests.labeling import CONFIG

SIDE = 64  # of the picture that masks are read for
LARGE = 7000  # of pictures and masks just below the bound


# Pictures


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_says(width: int, height: int, depth: int = 8, colour: int = 2, rows: int = 0) -> bytes:
    """A PNG of that size by its head, with so many empty rows in it."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = b"\0" * (1 + (width * channels * depth + 7) // 8) if rows else b""
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_with_empty_profile() -> bytes:
    """With an empty iCCP chunk after its pixels, over which Pillow stumbles."""
    png = png_that_says(SIDE, SIDE, 8, 6, rows=SIDE)
    end = png.index(b"IEND") - 4
    return png[:end] + chunk(b"iCCP", b"") + png[end:]


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    values = np.random.RandomState(height * width).randint(0, 256, (height, width, channels))
    return values.astype(np.uint8)


def good_pictures() -> dict[str, bytes]:
    """Unusual, but each of them is a picture."""
    rgb, grey = Image.fromarray(noise(20, 30)), Image.fromarray(noise(20, 30)[:, :, 0])
    deep = Image.fromarray(noise(20, 30)[:, :, 0].astype(np.uint16) * 257)
    frames = [Image.fromarray(noise(20, 30) // n) for n in (1, 2, 3)]
    more: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    return {
        "jpeg": saved(rgb, "JPEG"),
        "jpeg cmyk": saved(rgb.convert("CMYK"), "JPEG"),
        "jpeg grey": saved(grey, "JPEG"),
        "png 16 bit": saved(deep, "PNG"),
        "png palette": saved(rgb.convert("P"), "PNG", transparency=0),
        "png alpha": saved(Image.fromarray(noise(20, 30, 4)), "PNG"),
        "png 1 bit": saved(grey.convert("1"), "PNG"),
        "png animated": saved(frames[0], "PNG", **more),
        "gif animated": saved(frames[0], "GIF", **more),
        "webp animated": saved(frames[0], "WEBP", **more),
        "tiff": saved(rgb, "TIFF"),
        "tiff pages": saved(frames[0], "TIFF", **more),
        "tiff float": saved(Image.fromarray(noise(20, 30)[:, :, 0].astype(np.float32)), "TIFF"),
        "tiff lzw": saved(rgb, "TIFF", compression="tiff_lzw"),
        "bmp": saved(rgb, "BMP"),
    }


def bad_pictures() -> dict[str, bytes]:
    """None of these is one."""
    bmp = bytearray(good_pictures()["bmp"])
    bmp[18:26] = struct.pack("<ii", 30_000, 30_000)
    return {
        "empty": b"",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "html": b"<html><script>alert(1)</script></html>",
        "zip": b"PK\x03\x04" + b"\0" * 100,
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "30,000 x 30,000": png_that_says(30_000, 30_000),
        "30,000 x 30,000, all of it": png_that_says(30_000, 30_000, 1, 0, rows=30_000),
        "2 billion wide": png_that_says(2**31 - 1, 1),
        "no size": png_that_says(0, 0),
        "16 bit bomb": png_that_says(20_000, 20_000, 16, 6),
        "just over the limit": png_that_says(7_100, 7_100, 1, 0, rows=7_100),
        "bmp of another size": bytes(bmp),
    }


def large_pictures() -> dict[str, bytes]:
    """Valid ones, just below the bound of 50 million pixels."""
    flat = Image.new("RGB", (LARGE, LARGE), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    return {
        "49 Mpx": png_that_says(LARGE, LARGE, rows=LARGE),
        "49 Mpx alpha": png_that_says(LARGE, LARGE, 8, 6, rows=LARGE),
        "49 Mpx 16 bit": png_that_says(LARGE, LARGE, 16, 0, rows=LARGE),
        "49 Mpx 16 bit alpha": png_that_says(LARGE, LARGE, 16, 6, rows=LARGE),
        "49 Mpx in a row": png_that_says(LARGE * LARGE, 1, rows=1),
        "49 Mpx cmyk": saved(Image.new("CMYK", (LARGE, LARGE)), "JPEG"),
        "49 Mpx progressive": saved(flat, "JPEG", progressive=True, subsampling=0),
        "49 Mpx turned": saved(flat, "JPEG", exif=exif),
        "49 Mpx webp": saved(Image.new("RGBA", (LARGE, LARGE)), "WEBP", lossless=True, method=0),
    }


def damaged(data: bytes, dice: random.Random) -> bytes:
    """Cut short, with bits turned, or with pieces of it elsewhere."""
    broken, how = bytearray(data), dice.randrange(4)
    if how == 0:
        return bytes(broken[: dice.randrange(len(broken))])
    if how == 1:
        for _ in range(dice.randint(1, 20)):
            broken[dice.randrange(len(broken))] ^= 1 << dice.randrange(8)
    elif how == 2:
        start, number = dice.randrange(len(broken)), dice.choice([0, 2**31 - 1, 2**32 - 1, 30_000])
        broken[start : start + 4] = struct.pack(">I", number)
    else:
        start, end = sorted(dice.randrange(len(broken)) for _ in range(2))
        broken[start:end] = broken[start:end] * dice.choice([0, 2, 50])
    return bytes(broken)


def pictures(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    dice, good, bad = random.Random(seed), good_pictures(), bad_pictures()
    yield from list({**good, **bad}.items())[:count]
    for number in range(len(good) + len(bad), count):
        name = dice.choice(list(good))
        yield f"{name}, damaged {number}", damaged(good[name], dice)


# Masks


def region(kind: str, value: Any, **more: Any) -> dict[str, Any]:
    about = {"id": "r", "type": f"{kind}labels", "from_name": "parts", "to_name": "image"}
    about |= {"original_width": SIDE, "original_height": SIDE, "image_rotation": 0}
    return {**about, "value": {f"{kind}labels": ["face"], **value}, **more}


def as_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def good_masks() -> list[dict[str, Any]]:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[10:30, 10:40] = True
    points = [[10, 10], [60, 15], [30, 70]]
    return [
        region("brush", {"format": "rle", "rle": brush.encode(mask)}),
        region("bitmask", {"imageDataURL": as_url(saved(Image.new("LA", (SIDE, SIDE)), "PNG"))}),
        region("polygon", {"points": points, "closed": True}),
    ]


def bad_masks() -> dict[str, Any]:
    code = good_masks()[0]["value"]["rle"]
    gigabytes = [255, 255, 255, 252, *code[4:]]
    zigzag = [[0, 100 * (n % 2)] for n in range(400_000)]
    markup = "<img src=x onerror=alert(1)>"
    return {
        "another size": region("brush", {"rle": [0, 0, 1, 144, *code[4:]]}),
        "gigabytes": region("brush", {"rle": gigabytes}),
        "a number": region("brush", {"rle": 2**40}),
        "a text": region("brush", {"rle": "0" * 100}),
        "no bytes": region("brush", {"rle": [-1, 300, 1e9]}),
        "cut": region("brush", {"rle": code[:20]}),
        "junk behind it": region("brush", {"rle": code + [0] * 100}),
        "a megabyte behind it": region("brush", {"rle": code + [0] * 2**20}),
        "words of other sizes": region("brush", {"rle": [*code[:4], 0, *code[5:]]}),
        "bitmask bomb": region("bitmask", {"imageDataURL": as_url(png_that_says(30_000, 30_000))}),
        "a URL": region("bitmask", {"imageDataURL": "http://169.254.169.254/"}),
        "a file": region("bitmask", {"imageDataURL": "file:///etc/passwd"}),
        "zigzag": region("polygon", {"points": zigzag}),
        "no numbers": region("polygon", {"points": [[float("nan"), 1]] * 3}),
        "400 digits": region("polygon", {"points": [[10**400, 1], [2, 2], [3, 3]]}),
        "iCCP after IDAT": region("bitmask", {"imageDataURL": as_url(png_with_empty_profile())}),
        "labels of no list": region("brush", {"rle": code, "brushlabels": 5}),
        "texts": region("polygon", {"points": [["a", "b"]] * 3}),
        "a large picture": region("brush", {"rle": code}, original_width=10**9),
        "turned": region("brush", {"rle": code}, image_rotation=90),
        "markup": region("brush", {"rle": code, "brushlabels": [markup]}),
        "no object": "a region",
        "no value": {"type": "brushlabels", "to_name": "image"},
    }


def large_masks() -> dict[str, Any]:
    """Valid ones of as many pixels as a picture may have."""
    size = {"original_width": LARGE, "original_height": LARGE}
    opaque = packed_words(4 * LARGE * LARGE, 255)
    png = png_that_says(LARGE, LARGE, 8, 6, rows=LARGE)
    zigzag = [[100 * (n % 2), 100 * (n // 2 % 2)] for n in range(5_000)]
    return {
        "49 Mpx brush": region("brush", {"rle": opaque}, **size),
        "49 Mpx bitmask": region("bitmask", {"imageDataURL": as_url(png)}, **size),
        "49 Mpx polygon": region("polygon", {"points": zigzag}, **size),
    }


def packed_words(count: int, value: int) -> list[int]:
    """A run-length code of so many equal words, in chunks of 65,536."""
    bits = [f"{count:032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))]
    for begun in range(0, count, 2**16):
        bits.append(f"111{min(2**16, count - begun) - 1:016b}{value:08b}")
    text = "".join(bits)
    return [int(text[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(text), 8)]


def masks(count: int, seed: int = 0) -> Iterator[tuple[str, Any]]:
    dice, bad = random.Random(seed), bad_masks()
    yield from list(bad.items())[:count]
    for number in range(len(bad), count):
        made = dice.choice(good_masks())
        value = dict(made["value"])
        if "rle" in value:
            value["rle"] = list(damaged(bytes(value["rle"]), dice))
        elif "imageDataURL" in value:
            png = base64.b64decode(value["imageDataURL"].partition(",")[2])
            value["imageDataURL"] = as_url(damaged(png, dice))
        else:
            wild = [0, -1e9, 1e308, -1e308, 100.0001, float("inf"), "5", None, [], True]
            value["points"] = [[dice.choice(wild), dice.choice(wild)] for _ in range(5)]
        yield f"{made['type']}, damaged {number}", {**made, "value": value}


# All of them


def take_picture(data: bytes) -> str:
    try:
        decode_picture(data)
        return "read"
    except PictureError:
        return "refused"


def take_mask(made: Any) -> str:
    try:
        side = LARGE if isinstance(made, dict) and made.get("original_width") == LARGE else SIDE
        to_label_map([made], bind(parse_config(CONFIG), 5), side, side)
        return "read"
    except DganError:
        return "refused"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--masks", type=int, default=100)
    args = parser.parse_args()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as aside:
        large = aside.submit(large_pictures).result()  # making them takes memory, too
    told: dict[str, Any] = {"before": peak(), "peak": peak(), "slowest": 0.0}
    kinds: list[tuple[str, Iterator[tuple[str, Any]], Callable[[Any], str]]] = [
        ("pictures", pictures(args.pictures), take_picture),
        ("masks", masks(args.masks), take_mask),
        ("large pictures", iter(large.items()), take_picture),
        ("large masks", iter(large_masks().items()), take_mask),
    ]
    for kind, made, take in kinds:
        ends: Counter[str] = Counter()
        for name, one in made:
            began = time.process_time()
            ends[take(one)] += 1
            seconds = time.process_time() - began
            if seconds > told["slowest"]:
                told |= {"slowest": seconds, "which": name}
            if (now := peak()) > told["peak"]:
                told |= {"peak": now, "largest": name}
        told[kind] = dict(ends)
    print(json.dumps(told))


def peak() -> int:
    """The most memory that this process ever had, in bytes; `ru_maxrss` begins with that of the
    process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
