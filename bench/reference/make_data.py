"""Draws small shape pictures and writes data sets:

  OUT/vsft   like HuggingFaceH4/llava-instruct-mix-vsft: data/{train,test}-*.parquet with columns
             messages = list<{content: list<{index, text, type}>, role}> and images = list<{bytes, path}>
  OUT/chat   with --chat: talks in words alone, data/train-*.parquet and the same rows in train.jsonl,
             messages = list<{role, content: string}>, about 300 to 700 tokens each
  OUT/texts  with --chat: prompt and completion, a text each; OUT/talks the same as lists of messages
  OUT/mmiu   with --mmiu: like FanqingM/MMIU-Benchmark: all.parquet (split "test") and one zip of pictures per category

Everything follows from --seed.
"""
import argparse, io, json, math, random, re, zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (45, 75, 220),
           "yellow": (240, 215, 40), "purple": (150, 50, 190), "orange": (245, 140, 30)}
SHAPES = ["circle", "square", "triangle", "star"]
NUMBERS = ["one", "two", "three", "four"]
PLACES = {"top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}
GROUNDS = [(245, 245, 245), (225, 230, 235), (30, 30, 35), (200, 200, 205)]
PHOTO = (640, 480)
SIZES = [(112, 112), (160, 120), (120, 160), (224, 224), (97, 131), (300, 200)]


def shape(draw, kind, cx, cy, r, fill):
    if kind == "circle":
        draw.ellipse([cx - r, cy - r, cx + r, cy + r], fill=fill)
    elif kind == "square":
        h = r * 0.9
        draw.rectangle([cx - h, cy - h, cx + h, cy + h], fill=fill)
    elif kind == "triangle":
        draw.polygon([(cx, cy - r), (cx + r, cy + r * 0.85), (cx - r, cy + r * 0.85)], fill=fill)
    else:
        pts = []
        for k in range(10):
            q = r * (1.1 if k % 2 == 0 else 0.45)
            a = -math.pi / 2 + k * math.pi / 5
            pts.append((cx + q * math.cos(a), cy + q * math.sin(a)))
        draw.polygon(pts, fill=fill)


def scene(rng, size, kind=None):
    """One picture and what is true of it: all its shapes share kind and colour, each in its own quarter."""
    w, h = size
    s = 3
    ground = rng.choice(GROUNDS)
    im = Image.new("RGB", (w * s, h * s), ground)
    draw = ImageDraw.Draw(im)
    kind = kind or rng.choice(SHAPES)
    colour = rng.choice(list(COLOURS))
    n = rng.choice([1, 1, 1, 2, 3, 4])
    places = rng.sample(list(PLACES), n)
    for p in places:
        px, py = PLACES[p]
        cx = (0.25 + 0.5 * px + rng.uniform(-0.03, 0.03)) * w * s
        cy = (0.25 + 0.5 * py + rng.uniform(-0.03, 0.03)) * h * s
        shape(draw, kind, cx, cy, rng.uniform(0.17, 0.21) * min(w, h) * s, COLOURS[colour])
    return im.resize((w, h), Image.Resampling.BOX), dict(kind=kind, colour=colour, n=n, places=places)


def article(w):
    return ("an " if w[0] in "aeiou" else "a ") + w


def turns(rng, f, grey=False):
    """Question/answer pairs about one scene."""
    many = f["n"] > 1
    k, c, n = f["kind"], f["colour"], NUMBERS[f["n"] - 1]
    out = [(rng.choice(["What shape is this?", "Which shape do you see?"]), f"{article(k)}".capitalize() + "."),
           (rng.choice(["How many shapes are there?", "Count the shapes."]), f"{n.capitalize()}.")]
    if not grey:
        out.append((rng.choice(["What colour is it?", "Which colour do you see?"]), f"{c.capitalize()}."))
        out.append(("Describe the picture.",
                    f"{n.capitalize()} {c} {k}{'s' if many else ''}."))
    if not many:
        out.append(("Where is it?", f"In the {f['places'][0]}."))
    rng.shuffle(out)
    return out[: rng.choice([1, 1, 2, 3])]


def encode(rng, im, how):
    b = io.BytesIO()
    if how == "png":
        im.save(b, "PNG")
    elif how == "png-rgba":
        r, g, bl = im.split()
        alpha = Image.new("L", im.size, 255)
        ImageDraw.Draw(alpha).rectangle([0, 0, im.width // 3, im.height // 3], fill=90)
        Image.merge("RGBA", (r, g, bl, alpha)).save(b, "PNG")
    elif how == "png-p":
        im.quantize(32, method=Image.Quantize.MEDIANCUT).save(b, "PNG")
    elif how == "png-l":
        im.convert("L").save(b, "PNG")
    elif how == "jpeg":
        im.save(b, "JPEG", quality=88)
    elif how == "jpeg-444-progressive":
        im.save(b, "JPEG", quality=92, subsampling=0, progressive=True)
    elif how == "jpeg-l":
        im.convert("L").save(b, "JPEG", quality=90)
    elif how == "jpeg-cmyk":
        im.convert("CMYK").save(b, "JPEG", quality=90)
    elif how == "jpeg-exif":
        # stored turned, with the EXIF orientation that turns it back
        o = rng.choice([2, 3, 4, 5, 6, 7, 8])
        T = Image.Transpose
        undo = {2: T.FLIP_LEFT_RIGHT, 3: T.ROTATE_180, 4: T.FLIP_TOP_BOTTOM, 5: T.TRANSPOSE,
                6: T.ROTATE_90, 7: T.TRANSVERSE, 8: T.ROTATE_270}[o]
        e = Image.Exif()
        e[0x0112] = o
        im.transpose(undo).save(b, "JPEG", quality=90, exif=e)
    return b.getvalue()


FORMS = ["png", "png", "png", "jpeg", "jpeg", "png-rgba", "png-p", "png-l", "jpeg-444-progressive", "jpeg-l",
         "jpeg-cmyk", "jpeg-exif"]


def vsft_row(rng, i, plain, photo=False):
    how = "jpeg" if photo else "png" if plain else rng.choice(FORMS)
    im, f = scene(rng, PHOTO if photo else (112, 112) if plain else rng.choice(SIZES))
    grey = how in ("png-l", "jpeg-l")
    messages = []
    talk = [qa for _ in range(9) for qa in turns(rng, f)] if photo else turns(rng, f, grey)
    for t, (q, a) in enumerate(talk):
        user = [{"index": None, "text": q, "type": "text"}]
        if t == 0:
            pic = {"index": 0, "text": None, "type": "image"}
            if rng.random() < 0.5:
                user = [{"index": None, "text": q + "\n", "type": "text"}, pic]
            else:
                user = [pic, user[0]]
        messages.append({"content": user, "role": "user"})
        messages.append({"content": [{"index": None, "text": a, "type": "text"}], "role": "assistant"})
    ext = "png" if how.startswith("png") else "jpg"
    return {"messages": messages, "images": [{"bytes": encode(rng, im, how), "path": f"{i:06d}_{how}.{ext}"}]}


HF_FEATURES = {
    "messages": [{"content": [{"index": {"dtype": "int64", "_type": "Value"},
                               "text": {"dtype": "string", "_type": "Value"},
                               "type": {"dtype": "string", "_type": "Value"}}],
                  "role": {"dtype": "string", "_type": "Value"}}],
    "images": {"feature": {"_type": "Image"}, "_type": "Sequence"}}
CONTENT = pa.struct([("index", pa.int64()), ("text", pa.string()), ("type", pa.string())])
VSFT = pa.schema(
    [("messages", pa.list_(pa.struct([("content", pa.list_(CONTENT)), ("role", pa.string())]))),
     ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())])))],
    metadata={"huggingface": json.dumps({"info": {"features": HF_FEATURES}})})
MMIU = pa.schema([("task", pa.string()), ("visual_input_component", pa.string()), ("source", pa.string()),
                  ("options", pa.string()), ("question", pa.string()), ("context", pa.string()),
                  ("input_image_path", pa.list_(pa.string())), ("output", pa.string())])
TEXTS = pa.schema([("prompt", pa.string()), ("completion", pa.string())])
TALKS = pa.schema([(side, pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))) for side in ("prompt", "completion")])
CHAT = pa.schema([("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))])


def write_parquet(rows, schema, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="snappy", row_group_size=100)


def card(folder, **files):
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files:\n" + "".join(
        f"  - split: {s}\n    path: {p}\n" for s, p in files.items()) + "---\n")


def chat_row(rng):
    """A talk about scenes told in words. Its length counts words and signs, and 5 for the marks of each message."""
    left = rng.randint(325, 640)
    messages = []
    while True:
        _, f = scene(rng, (8, 8))
        questions, answers = zip(*turns(rng, f))
        told = f"Here is {article(f['colour'])} {f['kind']} in the {' and in the '.join(f['places'])}."
        pair = {"user": " ".join([told, *questions]), "assistant": " ".join(answers)}
        left -= sum(len(re.findall(r"\w+|[^\w\s]", text)) + 5 for text in pair.values())
        if left < 0:
            return {"messages": messages}
        messages += [{"role": role, "content": text} for role, text in pair.items()]


def mmiu(rng, n, out, photo=False):
    out.mkdir(parents=True, exist_ok=True)
    names = ["the first image", "the second image", "the third image", "the fourth image"]
    groups = {"Low-level-semantic": "odd_colour", "High-level-object": "odd_shape"}
    zips = {g: zipfile.ZipFile(out / f"{g}.zip", "w") for g in groups}
    rows = []
    for i in range(n):
        group = rng.choice(list(groups))
        task = groups[group]
        k = rng.choice([2, 3, 4])
        answer = rng.randrange(k)
        wanted = rng.choice(SHAPES) if task == "odd_shape" else rng.choice(list(COLOURS))
        paths = []
        for j in range(k):
            while True:
                im, f = scene(rng, PHOTO if photo else rng.choice(SIZES))
                got = f["kind"] if task == "odd_shape" else f["colour"]
                if (got == wanted) == (j == answer):
                    break
            how = rng.choice(["png", "jpeg"])
            name = f"{task}/{i:05d}_{j}.{'png' if how == 'png' else 'jpg'}"
            zi = zipfile.ZipInfo(name, (2025, 1, 1, 0, 0, 0))
            zi.compress_type = zipfile.ZIP_DEFLATED if j % 2 else zipfile.ZIP_STORED
            zips[group].writestr(zi, encode(rng, im, how))
            paths.append(f"./{group}/{name}")
        options = "\n".join(f"{'ABCD'[j]}: {names[j]}" for j in range(k))
        what = f"shows {article(wanted)}" if task == "odd_shape" else f"shows {wanted} shapes"
        rows.append(dict(task=task, visual_input_component="synthetic", source="shapes", options=options,
                         question=f"Which image {what}?",
                         context=f"You are given {NUMBERS[k - 1]} images. Please look at the details and tell which "
                                 f"one fits.\nSelect from the following choices.\n{options}",
                         input_image_path=paths, output="ABCD"[answer]))
    for z in zips.values():
        z.close()
    write_parquet(rows, MMIU, out / "all.parquet")
    card(out, test="all.parquet")


def corpus(seed=0, n=400):
    """Text to train a tokenizer on: the words of the data sets and a little of everything else."""
    rng = random.Random(seed)
    lines = ["user\n", "model\n", "system\n", "Here is the original image", "and here are some crops to help you see better",
             "You are given images. Please look at the details and tell which one fits.",
             "Select from the following choices.\nA: the first image\nB: the second image\nC: the third image\n"
             "D: the fourth image\nWhich image shows?", "0123456789 ()[]{}<>!?.,;:'\"-+*/=&%$#@_~|\\^`",
             "The quick brown fox jumps over the lazy dog. THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG.",
             "élan naïve über façade — “quoted” … 你好 世界 こんにちは привет мир"]
    for _ in range(n):
        _, f = scene(rng, (8, 8))
        lines += [s for qa in turns(rng, f) for s in qa]
        lines.append(f"{article(f['colour'])} {f['kind']} {f['kind']}s in the {f['places'][0]} {NUMBERS[f['n'] - 1]}")
    return lines


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", type=Path, required=True)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--train", type=int, default=400)
    ap.add_argument("--test", type=int, default=100)
    ap.add_argument("--chat", type=int, default=0, help="rows of the text-only data set")
    ap.add_argument("--mmiu", type=int, default=0, help="rows of the multi-image data set")
    ap.add_argument("--plain", action="store_true", help="only 112x112 RGB PNG")
    ap.add_argument("--photo", action="store_true", help="640x480 pictures and long talks (about 300 tokens), as on the hub")
    a = ap.parse_args()
    v = a.out / "vsft"
    for split, n, shards in (("train", a.train, 2), ("test", a.test, 1)):
        rng = random.Random(f"{a.seed}/{split}")
        rows = [vsft_row(rng, i, a.plain, a.photo) for i in range(n)]
        for s in range(shards):
            part = rows[s * n // shards:(s + 1) * n // shards]
            write_parquet(part, VSFT, v / "data" / f"{split}-{s:05d}-of-{shards:05d}.parquet")
    card(v, train="data/train-*", test="data/test-*")
    if a.mmiu:
        mmiu(random.Random(f"{a.seed}/mmiu"), a.mmiu, a.out / "mmiu", a.photo)
    if a.chat:
        rng = random.Random(f"{a.seed}/chat")
        rows = [chat_row(rng) for _ in range(a.chat)]
        write_parquet(rows, CHAT, a.out / "chat" / "data" / "train-00000-of-00001.parquet")
        (a.out / "chat" / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        card(a.out / "chat", train="data/train-*")
        talks = [{"prompt": r["messages"][:-1], "completion": r["messages"][-1:]} for r in rows]
        texts = [{"prompt": t["prompt"][0]["content"], "completion": " " + t["prompt"][1]["content"]} for t in talks]
        for name, schema, made in (("talks", TALKS, talks), ("texts", TEXTS, texts)):
            write_parquet(made, schema, a.out / name / "data" / "train-00000-of-00001.parquet")
            card(a.out / name, train="data/train-*")
