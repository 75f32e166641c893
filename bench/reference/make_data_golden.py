"""Writes golden files for the tests of lapidary.data, with pyarrow and torch:

  OUT/llava-<variant>.parquet   five conversations with pictures in a column, written in every way that pyarrow offers
  OUT/rows-<shape>.parquet      other shapes of the same and of wrong rows
  OUT/picture-<fault>.parquet   a right row, and one whose picture is not there
  OUT/deep*.parquet, deep.jsonl  rows of deep nesting with many nulls, and the same as JSON
  OUT/types*.parquet, types.jsonl  numbers of every type in every encoding, and the same as JSON
  OUT/long-<codec>.parquet      a text of 200 kB, which codecs copy from near and far; long.lz4 holds it in Hadoop's frames
  OUT/big-<dict|plain>.parquet  24 pictures of 4 MB in one page
  OUT/randperm.txt              n, seed, then torch.randperm(n) (its first 20 numbers and a sum)

    python make_data_golden.py java/engine/src/test/resources/lapidary/data
"""
import json, random, sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)


def content(text=pa.string()):
    return pa.struct([("index", pa.int64()), ("text", text), ("type", text)])


def schema(text=pa.string(), binary=pa.binary(), list_=pa.list_, image_fields=True):
    fields = [("bytes", binary)] + ([("path", text)] if image_fields else [])
    return pa.schema([("messages", list_(pa.struct([("content", list_(content(text))), ("role", text)]))),
                      ("images", list_(pa.struct(fields)))])


def image(i=None):
    return {"index": i, "text": None, "type": "image"}


def text(t):
    return {"index": None, "text": t, "type": "text"}


def picture(k, size=50, path=None):
    return {"bytes": bytes((k * 31 + j * 7) % 251 for j in range(size)), "path": path}


# what LlavaRows in ParquetDatasetTest expects
LLAVA = [
    {"messages": [{"role": "user", "content": [image(0), text("What is é 你好 😀?")]},
                  {"role": "assistant", "content": [text("A picture.")]}], "images": [picture(0, path="a.png")]},
    {"messages": [{"role": "user", "content": [text("Before\n"), image(1), text("between"), image(0)]},
                  {"role": "assistant", "content": [text("")]},
                  {"role": "user", "content": [text("And?")]},
                  {"role": "assistant", "content": [text("x" * 3000)]}], "images": [picture(1), picture(2, 5000)]},
    {"messages": [{"role": "user", "content": [text("No picture.")]},
                  {"role": "assistant", "content": [text("None.")]}], "images": []},
    {"messages": [{"role": "user", "content": [text("None either.")]},
                  {"role": "assistant", "content": [text("None.")]}], "images": None},
    {"messages": [{"role": "system", "content": [text(" sys ")]},
                  {"role": "user", "content": [image(), None, image(), image(2), {"index": None, "text": None, "type": "other"}]},
                  {"role": "assistant", "content": [text("Three.")]}],
     "images": [picture(3, 1), picture(4, 0), picture(5, path="c.png")]},
]


def write(name, table, **options):
    pq.write_table(table, out / f"{name}.parquet", **options)


llava = pa.Table.from_pylist(LLAVA, schema=schema())
for codec in ("none", "snappy", "gzip", "zstd", "lz4", "brotli"):
    write(f"llava-{codec}", llava, compression=codec)
for version in ("1.0", "2.0"):
    for dictionary in (True, False):
        write(f"llava-page{version[0]}-{'dict' if dictionary else 'plain'}", llava, data_page_version=version, use_dictionary=dictionary)
write("llava-groups", llava, row_group_size=2)
write("llava-index", llava, write_page_index=True, write_page_checksum=True)
write("llava-pages", llava, data_page_size=10, write_batch_size=1, use_dictionary=False)
write("llava-delta", llava, use_dictionary=False, column_encoding={
    "messages.list.element.content.list.element.text": "DELTA_BYTE_ARRAY", "messages.list.element.role": "DELTA_LENGTH_BYTE_ARRAY",
    "messages.list.element.content.list.element.index": "DELTA_BINARY_PACKED", "images.list.element.bytes": "DELTA_LENGTH_BYTE_ARRAY"})
write("llava-large", pa.Table.from_pylist(LLAVA, schema=schema(pa.large_string(), pa.large_binary(), pa.large_list)))
write("llava-oldlists", llava, use_compliant_nested_type=False)
write("llava-nopath", pa.Table.from_pylist(
    [{**r, "images": r["images"] and [{"bytes": i["bytes"]} for i in r["images"]]} for r in LLAVA], schema=schema(image_fields=False)))
extra = llava.append_column("id", pa.array(range(5))).append_column("bytes", pa.array([b"x"] * 5)).append_column(
    "source", pa.array([{"path": ["a", "b"]}] * 5)).select(["source", "images", "bytes", "messages", "id"])
write("llava-extra", extra)
write("llava-binarylist", pa.table({"messages": llava["messages"], "images": pa.array(
    [r["images"] and [i["bytes"] for i in r["images"]] for r in LLAVA], pa.list_(pa.binary()))}))

CHAT = [{"messages": [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": f"answer {i}"}]} for i in range(7)]
chat = pa.schema([("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])))])
write("rows-chat", pa.Table.from_pylist(CHAT, schema=chat))
one = [{"image": picture(i) if i else None, **CHAT[i]} for i in range(3)]
write("rows-image", pa.Table.from_pylist(one, schema=pa.schema(
    [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), *chat])))
write("rows-imagebytes", pa.Table.from_pylist([{**r, "image": r["image"] and r["image"]["bytes"]} for r in one],
                                              schema=pa.schema([("image", pa.binary()), *chat])))
inline = pa.struct([("type", pa.string()), ("text", pa.string()), ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
write("rows-inline", pa.Table.from_pylist(
    [{"messages": [{"role": "user", "content": [{"type": "image", "text": None, "image": picture(1)}, {"type": "text", "text": "q", "image": None}]},
                   {"role": "assistant", "content": [{"type": "text", "text": "a", "image": {"bytes": None, "path": None}}]}]}],
    schema=pa.schema([("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(inline))])))])))
write("rows-paths", pa.table({"messages": llava["messages"][:1], "images": pa.array([["picture.bin"]])}))
PLACE = "<start_of_image>"  # which a collator that only renders the template takes as an image's place
words = lambda *content: [{"role": r, "content": c} for r, c in zip(("user", "assistant", "user", "assistant"), content)]
write("rows-placeholders", pa.Table.from_pylist(
    [{"messages": words(f"see {PLACE} and{PLACE}", "a"), "images": [picture(1), picture(2)]},
     {"messages": words("draw", f"{PLACE} here", "and?", "no"), "images": [picture(3)]},
     {"messages": words(f"see {PLACE}", "a"), "images": [picture(1), picture(2)]},
     {"messages": words(f"see {PLACE}", "a"), "images": []}],
    schema=pa.schema([*chat, schema().field("images")])))
wrong = [
    {"messages": None, "images": []},
    {"messages": [], "images": []},
    {"messages": [None], "images": []},
    {"messages": [{"role": None, "content": [text("x")]}], "images": []},
    {"messages": [{"role": "user", "content": None}], "images": []},
    {"messages": [{"role": "user", "content": [text(None)]}], "images": []},
    {"messages": [{"role": "user", "content": [image(0)]}], "images": []},
    {"messages": [{"role": "user", "content": [text("x")]}], "images": [picture(0)]},
    {"messages": [{"role": "user", "content": [image(0), image(0)]}], "images": [picture(0), picture(1)]},
    {"messages": [{"role": "user", "content": [image(-1)]}], "images": [picture(0)]},
    {"messages": [{"role": "user", "content": [image(0)]}], "images": [None]},
    {"messages": [{"role": "user", "content": [image(0)]}], "images": [{"bytes": None, "path": None}]},
    {"messages": [{"role": "user", "content": [image(0)]}], "images": [{"bytes": None, "path": "gone.png"}]},
    {"messages": [{"role": "user", "content": [text("right")]}, {"role": "assistant", "content": [text("yes")]}], "images": []},
]
write("rows-wrong", pa.Table.from_pylist(wrong, schema=schema()))
for name, bad in {"gone": {"bytes": None, "path": "nowhere.png"}, "none": {"bytes": None, "path": None}, "null": None,
                  "url": {"bytes": None, "path": "https://example.org/a.png"}, "empty": {"bytes": b"", "path": "a.png"}}.items():
    asking = {"role": "user", "content": [image(0), text("x")]}
    write(f"picture-{name}", pa.Table.from_pylist(
        [{"messages": [asking, {"role": "assistant", "content": [text("y")]}], "images": [each]} for each in (picture(1), bad)],
        schema=schema()))
mmiu = {"task": "t", "options": "A: one\nB: two", "question": "Which?", "context": "You are given two.", "output": "B",
        "input_image_path": ["./Low-level/odd/0.png", "picture.bin"]}
write("rows-mmiu", pa.Table.from_pylist([mmiu, {**mmiu, "context": None, "input_image_path": []}]))
said = [{"role": "user", "content": "q"}]
write("rows-prompt", pa.Table.from_pylist(
    [{"prompt": said, "completion": [{"role": "assistant", "content": "a"}]}]))
write("rows-prompttext", pa.table({"prompt": ["q"], "completion": ["a"]}))
write("rows-ambiguous", pa.table({"prompt": ["q"], "completion": ["a"], "messages": [said]}))
write("rows-imageurl", pa.Table.from_pylist([{"messages": [{"role": "user", "content": [
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}, "text": None},
    {"type": "text", "image_url": None, "text": "q"}]}]}]))
write("rows-empty", llava[:0])
write("rows-nomessages", pa.table({"text": ["a"], "images": [[b"x"]]}))
write("rows-numbers", pa.table({"messages": pa.array([[{"role": "user", "content": 3}]])}))
write("rows-binarytext", pa.table({"messages": pa.array([[{"role": "user", "content": b"x"}]])}))
floats = pa.struct([("index", pa.float64()), ("text", pa.string()), ("type", pa.string())])
write("rows-floatindex", pa.table({"messages": pa.array(
    [[{"role": "user", "content": [image(1.0), image(0.0)]}], [{"role": "user", "content": [image(0.5)]}]],
    pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(floats))]))),
    "images": llava["images"].take([1, 0])}))

with open(out / "randperm.txt", "w") as f:
    for n, seed in [(0, 42), (1, 42), (2, 42), (7, 42), (7, 43), (100, 0), (1000, 2**32 + 5), (1000, 5), (400, 4294967295), (3, -1), (259155, 42), (1249, 1234567)]:
        p = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        check = int((p * torch.arange(1, n + 1)).sum())
        print(n, seed, check, *p[:20].tolist(), file=f)


# --- deep rows: any nesting, many nulls, several pages and batches; read back as Arrow sees them -----------------------
def deep(random, n):
    def maybe(make, p=0.25):
        return None if random.random() < p else make()

    def many(make, most=3):
        return maybe(lambda: [make() for _ in range(random.randrange(most + 1))])

    def word():
        return maybe(lambda: random.choice(["", "a", "é 你好", "x" * 40]))

    return [{"messages": many(lambda: maybe(lambda: {
        "numbers": many(lambda: many(lambda: maybe(lambda: random.randrange(-9, 1 << 40)))),
        "inner": maybe(lambda: {"word": word(), "flags": many(lambda: maybe(lambda: {"on": maybe(lambda: random.random() < 0.5)}))}),
        "float": maybe(lambda: random.random())})), "image": word()} for _ in range(n)]


DEEP = pa.schema([("messages", pa.list_(pa.struct([
    ("numbers", pa.list_(pa.list_(pa.int64()))),
    ("inner", pa.struct([("word", pa.string()), ("flags", pa.list_(pa.struct([("on", pa.bool_())])))])),
    ("float", pa.float64())]))), ("image", pa.string())])
rows = deep(random.Random(7), 300)
for name, options in {"deep": {}, "deep-pages": {"data_page_size": 100, "use_dictionary": False, "data_page_version": "2.0"}}.items():
    pq.write_table(pa.Table.from_pylist(rows, schema=DEEP), out / f"{name}.parquet", **options)
(out / "deep.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


# --- every type that a row may hold, in every encoding that there is for it ---------------------------------------------
def number(random, bits):
    return random.choice([0, 1, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), random.randrange(-1000, 1000)])


random.seed(8)
few = random.choices
typed = [{"messages": [None if random.random() < 0.1 else {
    "i": number(random, 32), "l": number(random, 64), "f": random.randrange(-999, 999) / 4, "d": random.randrange(-10**9, 10**9) / 8,
    "o": random.random() < 0.7, "s": "".join(few(["ab", "cd", "é"], k=random.randrange(4))), "n": None if random.random() < 0.5 else 3}
    for _ in range(random.randrange(4))]} for _ in range(400)]
TYPES = pa.schema([("messages", pa.list_(pa.struct([("i", pa.int32()), ("l", pa.int64()), ("f", pa.float32()), ("d", pa.float64()),
                                                    ("o", pa.bool_()), ("s", pa.string()), ("n", pa.int32())])))])
leaf = "messages.list.element."
encodings = {"plain": {}, "dict": None,
             "delta": {"i": "DELTA_BINARY_PACKED", "l": "DELTA_BINARY_PACKED", "s": "DELTA_BYTE_ARRAY", "o": "RLE"},
             "split": {k: "BYTE_STREAM_SPLIT" for k in "ilfd"} | {"s": "DELTA_LENGTH_BYTE_ARRAY"}}
for name, chosen in encodings.items():
    options = {"use_dictionary": chosen is None, "column_encoding": {leaf + k: e for k, e in chosen.items()} if chosen else None}
    for version in ("1.0", "2.0"):
        pq.write_table(pa.Table.from_pylist(typed, schema=TYPES), out / f"types-{name}{version[0]}.parquet", data_page_version=version,
                       data_page_size=2000, write_batch_size=100, compression="zstd", **options)
(out / "types.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in typed))

x, words = 1, []
for _ in range(50000):
    x = (x * 1103515245 + 12345) % 2**31
    words.append(f"w{(x >> 16) % 40} ")
long = "".join(words)
for codec in ("snappy", "gzip", "zstd", "lz4", "brotli"):
    pq.write_table(pa.table({"messages": [[{"role": "user", "content": long}]]}), out / f"long-{codec}.parquet", compression=codec,
                   use_dictionary=False, write_statistics=False)
with open(out / "long.lz4", "wb") as f:
    for part in (long[:70000].encode(), long[70000:].encode()):
        block = pa.Codec("lz4_raw").compress(part, asbytes=True)
        f.write(len(part).to_bytes(4, "big") + len(block).to_bytes(4, "big") + block)

big = pa.table({"messages": [CHAT[0]["messages"]] * 24, "image": [bytes([k]) * (4 << 20) for k in range(24)]})
for name, dictionary in (("dict", True), ("plain", False)):
    pq.write_table(big, out / f"big-{name}.parquet", compression="zstd", use_dictionary=dictionary, write_statistics=False)
