"""Encoded images with the RGB that Pillow decodes, and resized noise by torchvision and Pillow: golden values of lapidary.image.

    python image_golden.py ../../java/engine/src/test/resources/lapidary/image

Made with pillow 12.3.0 (libjpeg-turbo 3.1.4.1, libwebp 1.6.0), torch 2.13.0 on AVX-512, torchvision 0.28.0,
transformers 5.18.0. Writes the images, decode.tsv (file, width, height, SHA-256 of the RGB after exif_transpose),
resize.tsv (from, to, SHA-256 by torchvision, by Pillow) and pixels.tsv (from, SHA-256 of float32 pixel_values little-endian
by the torchvision and the PIL processor).
"""
import hashlib, io, os, struct, sys, warnings, zlib
import numpy as np
import PIL.ImageFile
from PIL import Image, ImageOps

warnings.filterwarnings("ignore")
PIL.ImageFile.MAXBLOCK = 1 << 22
out = sys.argv[1]
os.makedirs(out, exist_ok=True)
rng = np.random.default_rng(11)
sha = lambda b: hashlib.sha256(b).hexdigest()
files = []


def photo(w, h):
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([127 + 100 * np.sin(x / 7.3 + y / 11), 127 + 100 * np.cos(x / 5.1 - y / 17.0), (x * 255 / max(w - 1, 1) + y) % 256], -1)
    return Image.fromarray(np.clip(a + rng.integers(-30, 30, a.shape), 0, 255).astype(np.uint8))


def noise(w, h):
    return Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8))


def smooth(w, h):
    y, x = np.mgrid[0:h, 0:w]
    return Image.fromarray(np.stack([40 + 2 * x + y, 90 + x, 200 - 2 * y], -1).astype(np.uint8))


def stripes(w, h):
    y, x = np.mgrid[0:h, 0:w]
    a = 128 + 120 * np.sin((x + y * (1 + x // 24)) / 1.7)
    return Image.fromarray(np.stack([a, a, 255 - a], -1).astype(np.uint8))


def add(name, data):
    with open(os.path.join(out, name), "wb") as f:
        f.write(data)
    image = Image.open(io.BytesIO(data))
    image.load()
    rgb = ImageOps.exif_transpose(image).convert("RGB")
    files.append((name, rgb.width, rgb.height, sha(rgb.tobytes())))


def save(name, image, **options):
    buffer = io.BytesIO()
    image.save(buffer, name.rsplit(".", 1)[1].replace("jpg", "jpeg"), **options)
    add(name, buffer.getvalue())
    return buffer.getvalue()


def jpegs():
    for w, h in [(1, 1), (2, 3), (7, 5), (16, 16), (33, 31), (100, 75)]:
        for sub, tag in [(0, "444"), (1, "422"), (2, "420"), ("4:1:1", "411")]:
            for progressive in (False, True):
                if (w, h) not in [(33, 31), (7, 5), (1, 1)] and progressive:
                    continue
                save(f"jpeg-{tag}-{w}x{h}{'-progressive' if progressive else ''}.jpg", photo(w, h), subsampling=sub, quality=85, progressive=progressive)
    save("jpeg-noise-q100.jpg", noise(40, 41), quality=100, subsampling=0)
    save("jpeg-noise-q1.jpg", noise(40, 41), quality=1, progressive=True, optimize=True)
    save("jpeg-noise-q3.jpg", noise(61, 9), quality=3)
    save("jpeg-restart-3.jpg", photo(61, 40), restart_marker_blocks=3)
    save("jpeg-restart-progressive.jpg", photo(61, 40), restart_marker_rows=1, progressive=True)
    save("jpeg-grey.jpg", photo(35, 22).convert("L"))
    save("jpeg-grey-progressive.jpg", photo(35, 22).convert("L"), progressive=True)
    rgb = save("jpeg-rgb.jpg", photo(35, 22), keep_rgb=True)
    save("jpeg-rgb-progressive.jpg", photo(35, 22), keep_rgb=True, progressive=True)
    cmyk = save("jpeg-cmyk.jpg", photo(35, 22).convert("CMYK"))
    save("jpeg-cmyk-progressive.jpg", photo(36, 22).convert("CMYK"), progressive=True)
    adobe = cmyk.index(b"Adobe")
    add("jpeg-ycck.jpg", cmyk[:adobe + 11] + b"\2" + cmyk[adobe + 12:])  # the same inks, said to be YCC and K
    add("jpeg-cmyk-without-adobe.jpg", cmyk.replace(b"Adobe", b"Adobf"))
    inks = Image.merge("CMYK", photo(35, 22).split() + noise(35, 22).split()[:1])
    save("jpeg-cmyk-black.jpg", inks, quality=95)
    flat = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(8, 0).repeat(8, 1))
    for quality in (50, 84, 87, 90, 93):
        save(f"jpeg-flat-q{quality}.jpg", flat, quality=quality)
    levels = np.asarray(flat).astype(int) + (rng.random((128, 128)) < np.linspace(0, 1, 128))
    save("jpeg-nearly-flat-q40.jpg", Image.fromarray(levels.clip(0, 255).astype(np.uint8)), quality=40)
    for quality in (20, 40, 45):
        save(f"jpeg-smooth-q{quality}.jpg", smooth(64, 48), quality=quality)
    named = rgb[:2] + b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + rgb[2:].replace(b"Adobe", b"Adobf")
    add("jpeg-rgb-names-with-jfif.jpg", named)
    add("jpeg-rgb-names.jpg", rgb.replace(b"Adobe", b"Adobf"))
    plain = save("jpeg-422-32x16.jpg", photo(32, 16), subsampling=1)
    # half as many rows of chroma instead of columns: the MCUs of 32 x 16 in 4:2:2 make 16 x 32 in 4:4:0
    at = plain.index(b"\xff\xc0")
    frame = plain[at:at + 19]
    turned = frame[:5] + struct.pack(">HH", 32, 16) + frame[9:11] + b"\x12" + frame[12:]
    add("jpeg-440.jpg", plain.replace(frame, turned))
    odd = frame[:5] + struct.pack(">HH", 29, 15) + frame[9:11] + b"\x12" + frame[12:]
    add("jpeg-440-odd.jpg", plain.replace(frame, odd))
    app0 = plain.index(b"\xff\xe0")
    bare = plain[:app0] + plain[app0 + 18:]
    add("jpeg-without-jfif.jpg", bare)
    marker = lambda t: b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([t])
    add("jpeg-adobe-ycc.jpg", bare[:2] + marker(1) + bare[2:])
    add("jpeg-adobe-rgb.jpg", bare[:2] + marker(0) + bare[2:])
    add("jpeg-fill-bytes.jpg", plain[:app0] + b"\xff\xff\xff" + plain[app0:])
    add("jpeg-trailing-rubbish.jpg", plain + bytes(100))
    for o in range(0, 10):
        exif = Image.Exif()
        exif[0x112] = o
        save(f"exif-{o}.jpg", photo(11, 6), exif=exif, quality=90)
    exif = Image.Exif()
    exif.endian = "<"
    exif[0x10F] = "A camera with a name"
    exif[0x112] = 6
    save("exif-little.jpg", photo(11, 6), exif=exif.tobytes())
    save("exif-damaged.jpg", photo(11, 6))
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation=\"8\"/></x:xmpmeta>"
    add("xmp-8.jpg", plain[:2] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + plain[2:])


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(w, h, depth, kind, samples, interlaced=False, extra=b"", tail=b"", filters=True):
    """samples: [h, w, channels] of depth bits"""
    channels = samples.shape[2]

    def rows(a):
        packed = b""
        previous = None
        bpp = max(1, depth * channels // 8)
        for y in range(a.shape[0]):
            values = a[y].reshape(-1)
            if depth == 16:
                row = values.astype(">u2").tobytes()
            elif depth == 8:
                row = values.astype(np.uint8).tobytes()
            else:
                bits = "".join(format(int(v), f"0{depth}b") for v in values)
                bits += "0" * (-len(bits) % 8)
                row = int(bits, 2).to_bytes(len(bits) // 8, "big")
            row = np.frombuffer(row, np.uint8).astype(int)
            if previous is None:
                previous = np.zeros_like(row)
            left = np.concatenate([np.zeros(bpp, int), row[:-bpp]]) if len(row) > bpp else np.zeros_like(row)
            corner = np.concatenate([np.zeros(bpp, int), previous[:-bpp]]) if len(row) > bpp else np.zeros_like(row)
            f = (y + 2) % 5 if filters else 0
            pa, pb, pc = abs(previous - corner), abs(left - corner), abs(left + previous - 2 * corner)
            paeth = np.where((pa <= pb) & (pa <= pc), left, np.where(pb <= pc, previous, corner))
            guess = [0, left, previous, (left + previous) // 2, paeth][f]
            packed += bytes([f]) + ((row - guess) % 256).astype(np.uint8).tobytes()
            previous = row
        return packed

    if interlaced:
        data = b""
        for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
            part = samples[y0::dy, x0::dx]
            if part.size:
                data += rows(part)
    else:
        data = rows(samples)
    data = zlib.compress(data)
    cut = len(data) // 3
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, interlaced)) + extra
            + chunk(b"IDAT", data[:cut]) + chunk(b"IDAT", b"") + chunk(b"IDAT", data[cut:]) + tail + chunk(b"IEND", b""))


def pngs():
    kinds = [(0, 1, (1, 2, 4, 8, 16)), (2, 3, (8, 16)), (3, 1, (1, 2, 4, 8)), (4, 2, (8, 16)), (6, 4, (8, 16))]
    for kind, channels, depths in kinds:
        for depth in depths:
            for interlaced in (False, True):
                for w, h in [(13, 11)] if not interlaced else [(13, 11), (1, 1), (3, 5)]:
                    a = rng.integers(0, 1 << depth, (h, w, channels))
                    if kind == 0 and depth == 16:
                        a[::2] = a[::2] // 200  # some below 256
                    extra = chunk(b"PLTE", rng.bytes(3 * min(1 << depth, 200))) if kind == 3 else b""
                    if kind == 3:
                        extra += chunk(b"tRNS", bytes([0, 128]))
                    add(f"png-{kind}-{depth}{'-interlaced' if interlaced else ''}-{w}x{h}.png", png(w, h, depth, kind, a, interlaced, extra))
    a = rng.integers(0, 256, (6, 11, 3))
    grey = rng.integers(0, 256, (6, 11, 1))
    add("png-trns-grey.png", png(11, 6, 8, 0, grey, extra=chunk(b"tRNS", b"\0\x10")))
    add("png-trns-rgb.png", png(11, 6, 8, 2, a, extra=chunk(b"tRNS", b"\0\x10\0\x20\0\x30")))
    add("png-icc-gamma.png", png(11, 6, 8, 2, a, extra=chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile")) + chunk(b"gAMA", struct.pack(">I", 100000))))
    exif = Image.Exif()
    exif[0x112] = 6
    block = exif.tobytes()[6:]
    add("png-exif-6.png", png(11, 6, 8, 2, a, extra=chunk(b"eXIf", block)))
    add("png-exif-behind.png", png(11, 6, 8, 2, a, tail=chunk(b"eXIf", block)))
    hexed = b"\nexif\n%8d\n" % (len(block) + 6) + (b"Exif\0\0" + block).hex().encode() + b"\n"
    add("png-exif-text.png", png(11, 6, 8, 2, a, extra=chunk(b"tEXt", b"Raw profile type exif\0" + hexed)))
    add("png-exif-ztext.png", png(11, 6, 8, 2, a, extra=chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(hexed))))
    xmp = b"<x:xmpmeta><tiff:Orientation>3</tiff:Orientation></x:xmpmeta>"
    add("png-xmp-3.png", png(11, 6, 8, 2, a, extra=chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)))
    frames = [photo(12, 9), noise(12, 9)]
    save("png-animated.png", frames[0], save_all=True, append_images=frames[1:], duration=100)
    save("png-pillow.png", photo(50, 40), optimize=True)


def lzw(indices, bits):
    """GIF codes with a clear before each, so that no table is needed"""
    value = shift = 0
    for i in indices:
        for code in (1 << bits, i):
            value |= code << shift
            shift += bits + 1
    value |= ((1 << bits) + 1) << shift
    data = value.to_bytes((shift + bits + 8) // 8, "little")
    return bytes([bits]) + b"".join(bytes([len(data[i:i + 255])]) + data[i:i + 255] for i in range(0, len(data), 255)) + b"\0"


def gif(w, h, box, palette, transparent=None, local=None, background=0):
    x, y, fw, fh = box
    data = b"GIF89a" + struct.pack("<HH", w, h)
    data += bytes([0x80 | (len(palette) // 3).bit_length() - 2, background, 0]) + palette if palette else bytes([0, background, 0])
    if transparent is not None:
        data += b"!\xf9\4\1\0\0" + bytes([transparent]) + b"\0"
    data += b"!\xfe\5hello\0," + struct.pack("<HHHH", x, y, fw, fh)
    data += bytes([0x80 | (len(local) // 3).bit_length() - 2]) + local if local else b"\0"
    return data + lzw([(7 * i) % 6 for i in range(fw * fh)], 3) + b";"


def gifs():
    palette = rng.bytes(24)
    add("gif-partial.gif", gif(9, 7, (2, 1, 4, 3), palette, background=3))
    add("gif-partial-transparent.gif", gif(9, 7, (2, 1, 4, 3), palette, transparent=5, background=3))
    add("gif-local-palette.gif", gif(9, 7, (2, 1, 4, 3), palette, local=rng.bytes(48)))
    add("gif-no-palette.gif", gif(6, 5, (0, 0, 6, 5), b""))
    add("gif-short-palette.gif", gif(6, 5, (0, 0, 6, 5), palette[:12]))
    add("gif-grey-ramp.gif", gif(6, 5, (0, 0, 6, 5), bytes(i // 3 for i in range(12))))
    add("gif-frame-beyond-screen.gif", gif(3, 3, (1, 1, 6, 5), palette))
    save("gif-photo.gif", photo(90, 70))
    save("gif-interlaced.gif", photo(33, 21).quantize(17), interlace=1)
    save("gif-grey.gif", photo(33, 21).convert("L"))
    save("gif-animated.gif", photo(33, 21), save_all=True, append_images=[noise(33, 21)], duration=50)


def bmp(w, h, bits, rows, compression=0, palette=b"", masks=b"", colours=0, header=40, core=False):
    if core:
        info = struct.pack("<IHHHH", 12, w, h, 1, bits)
    else:
        info = struct.pack("<IiiHHIIiiII", header, w, h, 1, bits, compression, len(rows), 0, 0, colours, 0) + masks
    offset = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + info + palette + rows


def bmps():
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        save(f"bmp-{mode}.bmp", photo(13, 7).convert(mode))
    w, h = 11, 5
    row = lambda bits: rng.bytes((w * bits + 31) // 32 * 4 * h)
    masks = lambda *m: struct.pack("<%dI" % len(m), *m)
    add("bmp-555.bmp", bmp(w, h, 16, row(16)))
    add("bmp-565.bmp", bmp(w, h, 16, row(16), 3, masks=masks(0xF800, 0x7E0, 0x1F)))
    add("bmp-32.bmp", bmp(w, h, 32, row(32)))
    add("bmp-32-rgbx.bmp", bmp(w, h, 32, row(32), 3, masks=masks(0xFF000000, 0xFF0000, 0xFF00)))
    add("bmp-32-v4.bmp", bmp(w, h, 32, row(32), 3, masks=masks(0xFF, 0xFF00, 0xFF0000, 0xFF000000) + bytes(52), header=108))
    add("bmp-top-down.bmp", bmp(w, -h, 24, row(24)))
    add("bmp-4.bmp", bmp(w, h, 4, row(4), palette=rng.bytes(64)))
    add("bmp-two-colours.bmp", bmp(w, h, 1, row(1), palette=rng.bytes(8)))
    add("bmp-white-first.bmp", bmp(w, h, 1, row(1), palette=b"\xff\xff\xff\0\0\0\0\0"))
    add("bmp-8-few-colours.bmp", bmp(w, h, 8, row(8), palette=rng.bytes(40), colours=10))
    add("bmp-os2-24.bmp", bmp(w, h, 24, row(24), core=True))
    add("bmp-os2-8.bmp", bmp(w, h, 8, row(8), palette=rng.bytes(768), core=True))
    rle8 = b"".join(bytes([5, 3, 0, 4, 9, 8, 7, 6, 2, 1, 0, 0]) for _ in range(h)) + b"\0\1"
    add("bmp-rle8.bmp", bmp(w, h, 8, rle8, 1, palette=rng.bytes(1024)))
    rle4 = b"".join(bytes([5, 0x3A, 0, 4, 0x98, 0x76, 2, 0x1F, 0, 0]) for _ in range(h)) + b"\0\1"
    add("bmp-rle4.bmp", bmp(w, h, 4, rle4, 2, palette=rng.bytes(64)))


def webps():
    for w, h in [(1, 1), (3, 2), (7, 5), (33, 31), (100, 75)]:
        image = photo(w, h)
        alpha = image.copy()
        alpha.putalpha(image.convert("L"))
        save(f"webp-lossless-{w}x{h}.webp", image, lossless=True)
        save(f"webp-lossless-alpha-{w}x{h}.webp", alpha, lossless=True, exact=True)
        for colours in (2, 3, 13, 200):
            save(f"webp-lossless-{colours}-colours-{w}x{h}.webp", image.quantize(colours).convert("RGB"), lossless=True)
        for quality, method in [(0, 0), (10, 6), (75, 4), (100, 3)]:
            save(f"webp-lossy-{quality}-{w}x{h}.webp", image, quality=quality, method=method)
        save(f"webp-lossy-alpha-{w}x{h}.webp", alpha, quality=60)
    save("webp-lossless-noise.webp", noise(40, 30), lossless=True)
    save("webp-lossless-fast.webp", photo(80, 60), lossless=True, quality=0, method=0)
    save("webp-lossless-best.webp", photo(200, 150), lossless=True, quality=100, method=6)
    save("webp-lossy-noise.webp", noise(70, 50), quality=90)
    save("webp-lossy-flat.webp", Image.new("RGB", (130, 90), (200, 30, 99)), quality=20)
    for quality in (0, 5, 15, 25, 35, 45, 55, 65, 85, 95, 100):
        save(f"webp-lossy-smooth-{quality}.webp", smooth(48, 48), quality=quality, method=quality % 7)
        save(f"webp-lossy-stripes-{quality}.webp", stripes(48, 48), quality=quality, method=quality % 7)
        save(f"webp-lossy-photo-{quality}.webp", photo(48, 32), quality=quality, method=6)
    animated = save("webp-animated.webp", photo(33, 21), save_all=True, append_images=[noise(33, 21)], duration=50)
    # the first frame as a part of a larger canvas
    at = animated.index(b"VP8X") + 12
    anmf = animated.index(b"ANMF") + 8
    part = animated[:at] + (39).to_bytes(3, "little") + (29).to_bytes(3, "little") + animated[at + 6:anmf] + bytes([2, 0, 0, 3, 0, 0]) + animated[anmf + 6:]
    add("webp-animated-partial.webp", part)
    exif = Image.Exif()
    exif[0x112] = 5
    save("webp-exif-5.webp", photo(33, 21), exif=exif, lossless=True)
    exif[0x112] = 8
    save("webp-exif-8.webp", photo(33, 21), exif=exif, quality=80)


def hashed(w, h, black_and_white=False):
    """Noise that the tests make as well: 32-bit integers mixed"""
    i = np.arange(w * h * 3, dtype=np.uint64)
    m = np.uint64(0xFFFFFFFF)
    x = (i * np.uint64(2654435761)) & m
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(2246822519)) & m
    x ^= x >> np.uint64(13)
    a = (x & np.uint64(255)).astype(np.uint8).reshape(h, w, 3)
    return np.where(a > 127, 255, 0).astype(np.uint8) if black_and_white else a


def resizes():
    import tvfix  # noqa: F401  a CUDA build of torchvision beside a CPU build of torch
    import torch
    from torchvision.transforms.v2 import functional as tvf
    cases = [(1, 1, 8, 8), (1, 3000, 64, 64), (3000, 1, 64, 64), (60, 40, 896, 896), (1200, 900, 896, 896), (896, 700, 896, 896),
             (700, 896, 896, 896), (896, 896, 896, 896), (333, 1777, 224, 336), (5, 3, 64, 64), (2000, 1500, 896, 896), (4000, 20, 112, 112),
             (2, 2, 1, 1), (3000, 2000, 1, 1), (65535, 1, 16, 16), (1, 65535, 16, 16), (640, 480, 224, 336), (895, 897, 896, 896),
             (1793, 1791, 896, 896), (17, 17, 16, 18), (500, 3, 3, 500)]
    with open(os.path.join(out, "resize.tsv"), "w") as f:
        for black_and_white in (False, True):
            for w, h, tw, th in cases:
                a = hashed(w, h, black_and_white)
                chw = torch.from_numpy(a).permute(2, 0, 1).contiguous()
                try:
                    tv = sha(tvf.resize(chw, [th, tw], interpolation=tvf.InterpolationMode.BILINEAR, antialias=True).permute(1, 2, 0).contiguous().numpy().tobytes())
                except RuntimeError as e:  # an internal assertion of torch 2.13, for some images one pixel wide
                    print("torch:", (w, h, tw, th), str(e)[:90])
                    tv = "-"
                pil = np.asarray(Image.fromarray(a).resize((tw, th), Image.BILINEAR))
                f.write(f"{w}\t{h}\t{tw}\t{th}\t{str(black_and_white).lower()}\t{tv}\t{sha(pil.tobytes())}\n")
    from transformers.models.gemma3.image_processing_gemma3 import Gemma3ImageProcessor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
    half = [0.5, 0.5, 0.5]
    other = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    with open(os.path.join(out, "pixels.tsv"), "w") as f:
        for w, h, size, mean, std, crops in [(60, 40, 112, half, half, False), (300, 200, 224, *other, False), (112, 112, 112, half, half, False),
                                             (1300, 300, 112, half, half, True), (300, 1030, 112, half, half, True), (900, 880, 112, half, half, True)]:
            line = [w, h, size, ",".join(map(str, mean)), ",".join(map(str, std)), str(crops).lower()]
            for cls in (Gemma3ImageProcessor, Gemma3ImageProcessorPil):
                processor = cls(size={"height": size, "width": size}, image_mean=mean, image_std=std)
                values = processor(Image.fromarray(hashed(w, h)), return_tensors="np", do_pan_and_scan=crops, pan_and_scan_min_crop_size=256,
                                   pan_and_scan_max_num_crops=4, pan_and_scan_min_ratio_to_activate=1.2)["pixel_values"]
                line += [values.shape[0], sha(np.ascontiguousarray(values).astype("<f4").tobytes())]
            f.write("\t".join(map(str, line)) + "\n")


jpegs()
pngs()
gifs()
bmps()
webps()
with open(os.path.join(out, "decode.tsv"), "w") as f:
    for entry in files:
        f.write("\t".join(map(str, entry)) + "\n")
resizes()
print(len(files), "files,", sum(os.path.getsize(os.path.join(out, n)) for n in os.listdir(out)), "bytes")
