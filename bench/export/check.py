"""What the engine hands on, loaded by the programs it is for.

    mvn -q -DskipTests package && python bench/export/check.py MODEL [MODEL ...] --work DIR [--node DIR] [--table FILE]

MODEL are checkpoints of bench/reference/make_model.py. For each, with adapters that PEFT made at random:

* engine merge, and Transformers loads what it wrote: no key missing or unexpected, logits in float32 against those of PEFT's
  base + adapter, for text and a picture;
* engine export of the merged checkpoints, head tied and not, and llama.cpp loads it: the log-probabilities of its 50
  likeliest next tokens against the engine's, for a short text, one longer than the window, and a picture at the
  tower's own size; the same with other layers global; and the ids of texts against Hugging Face's tokenizer.

--node is a folder with llama.cpp as an npm package; without it llama.cpp is left out:

    npm i --omit=optional --ignore-scripts @fugood/llama.node@1.7.15 @fugood/node-llama-linux-x64@1.7.15
"""
import argparse, json, os, shutil, subprocess, sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "bench/reference"))
import tvfix  # noqa: F401
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image, ImageDraw
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

TURN = "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n"
QUESTION = "What is in the picture?"
# Largest difference of a log-probability. Files of llama.cpp's own converter differ by 7e-4 to 1.3e-3 in F32 (its GELU is a
# table in F16), 1.1e-2 in BF16 and 7e-2 in Q8_0 on tiny, of 6 layers; twice that for small, of 12.
TOLERANCE = {"f32": 2.5e-3, "f16": 4e-3, "bf16": 2.2e-2, "q8_0": 1.4e-1}
TEXTS = ["a", " a", "  a", "a  b   c    d", "\n", "\n\n\n a\n", "tab\there", "Hello, world!", "  leading", "trailing  ",
         "naïve café", "Ünïcödé ß", "日本語のテキスト", "русский текст", "emoji 🙂🙃 👩‍👩‍👧", "1234567890 3.14159", "x=1;y=2", "<b>bold</b>",
         "<table>\n<tr>", "a<end_of_turn>b", "<start_of_turn>user\nhi<end_of_turn>\n", "<unused7>", "circles and squares and triangles",
         "\u00a0nbsp", "\u200bzero", "e\u0301 combining", "a\r\nb", "\x01\x02", "{\"k\": [1, 2]}", "aaaaaaaaaaaaaaaaaaaaaaaaa",
         "What colour is the circle? Red.", "the the the", "UPPER lower MiXeD", "-- __ ** ##", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "ﬁ ligature"]
failures, rows = [], []
# Of a merged bfloat16 checkpoint: it keeps 8 bits, a weight is off by up to 2^-9 of itself, and so on through every layer.
MERGED = 0.25


def java():
    for folder in filter(None, [os.environ.get("JAVA_HOME"), *sorted(map(str, Path("/usr/lib/jvm").glob("*")), reverse=True)]):
        release = Path(folder, "release")
        if release.is_file() and 'JAVA_VERSION="2' in release.read_text() and Path(folder, "bin/java").exists():
            return str(Path(folder, "bin/java"))
    return "java"


JAVA = [java(), "--enable-native-access=ALL-UNNAMED"]


def engine(*args):
    done = subprocess.run([*JAVA, "-jar", str(TOP / "target/engine.jar"), *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"engine {args}: {done.stderr}")
    print(done.stdout, flush=True)
    return done.stdout


def row(model, what, where, value, limit, more=""):
    good = value <= limit
    rows.append(f"| {model} | {what} | {where} | {value:.1e} | {limit:.1e} | {more} |")
    print(("ok: " if good else "FAILED: ") + rows[-1], flush=True)
    if not good:
        failures.append(rows[-1])


def picture(path, side):
    image = Image.new("RGB", (side, side))
    image.putdata([(255 * x // side, 255 * y // side, 128) for y in range(side) for x in range(side)])
    ImageDraw.Draw(image).ellipse([side // 5, side // 3, side // 2, 2 * side // 3], fill=(220, 40, 30))
    image.save(path)


def config(checkpoint):
    return json.loads((checkpoint / "config.json").read_text())


def load(checkpoint, **more):
    auto = AutoModelForImageTextToText if "vision_config" in config(checkpoint) else AutoModelForCausalLM
    return auto.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager", **more)


def prompts(work, checkpoint):
    long = " ".join(f"{i} red and {i * 7 % 13} blue circles." for i in range(40))
    words = {"text": (TURN.format(QUESTION), []), "long text": (TURN.format(long), [])}
    if "vision_config" not in config(checkpoint):
        return words
    picture(work / "picture.png", config(checkpoint)["vision_config"]["image_size"])
    return {**words, "picture": (TURN.format("<start_of_image>" + QUESTION), [str(work / "picture.png")])}


def adapter(base, out, saved, **settings):
    torch.manual_seed(5)
    model = get_peft_model(load(base), LoraConfig(lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM",
                                                  modules_to_save=saved, **settings))
    g = torch.Generator().manual_seed(5)
    for n, p in sorted(model.named_parameters()):
        if p.requires_grad and "lora_B" in n:
            p.data.copy_(torch.randn(p.shape, generator=g) * 0.02)
        elif p.requires_grad and "lora_" not in n:
            p.data.add_(torch.randn(p.shape, generator=g) * p.std() * 0.2)
    model.save_pretrained(out)


def inputs(model, text, images):
    if "vision_config" not in config(model):
        return AutoTokenizer.from_pretrained(model)(text.removeprefix("<bos>"), return_tensors="pt")
    processor = AutoProcessor.from_pretrained(model, use_fast=True)
    batch = processor(text=text.removeprefix("<bos>"), images=[Image.open(i) for i in images] or None, return_tensors="pt")
    if "token_type_ids" not in batch:
        batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    return batch


def merged(model, base, work, name, saved, **settings):
    """An adapter, merged by the engine and held against PEFT."""
    folder, out = work / f"{name}-adapter", work / f"{name}-merged"
    adapter(base, folder, saved, **settings)
    said = engine("merge", "--model_name_or_path", base, "--adapter_name_or_path", folder, "--output_dir", out)
    tied = "(tied)" in said
    assert tied == (saved is None), said
    theirs, plain = PeftModel.from_pretrained(load(base), folder).eval(), load(base).eval()
    ours, info = load(out, output_loading_info=True)
    strange = [k for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for k in info[kind]]
    row(model, f"merge, {name}", "keys that Transformers missed or did not know", len(strange), 0)
    for where, (text, images) in prompts(work, base).items():
        batch = inputs(base, text, images)
        with torch.no_grad():
            x, y, z = (m(**batch).logits[0].log_softmax(-1) for m in (theirs, ours.eval(), plain))
        moved = (x - z).abs().max().item()
        top = x.topk(50, -1).indices
        off = (x - y).abs().gather(-1, top).max().item()
        row(model, f"merge, {name}", where, off, MERGED, f"{moved:.2f}")
    return out


def llama(model, checkpoint, work, node, name, outtype):
    out = work / f"{name}-{outtype}".replace(" ", "-").replace(".", "")
    engine("export", "--format", "gguf", "--model_name_or_path", checkpoint, "--output_dir", out, "--outtype", outtype)
    file = work / "prompts.jsonl"
    asked = prompts(work, checkpoint)
    file.write_text("".join(json.dumps({"text": t, "images": i}) + "\n" for t, i in asked.values()))
    text, mmproj = out / f"{checkpoint.name}-{outtype}.gguf", out / f"mmproj-{checkpoint.name}-{outtype}.gguf"
    ours = subprocess.run([*JAVA, "-cp", TOP / "target/benchmarks.jar", "lapidary.bench.Logprobs", checkpoint, "-", file],
                          capture_output=True, text=True, check=True).stdout.splitlines()
    done = subprocess.run(["node", TOP / "bench/export/llama.js", text, mmproj, file], capture_output=True, text=True,
                          env={**os.environ, "NODE_PATH": str(node / "node_modules")})
    theirs = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if len(theirs) != len(asked):
        sys.exit(f"llama.cpp: {done.stdout[-800:]} {done.stderr[-2000:]}")
    for (where, _), a, b in zip(asked.items(), map(json.loads, ours), map(json.loads, theirs)):
        if b["ids"] and a["ids"][1:] != b["ids"]:
            failures.append(f"{where}: ids {a['ids']} {b['ids']}")
            print("FAILED:", failures[-1])
        known = {}
        for _, token, value in a["top"]:
            known.setdefault(token, []).append(value)
        pairs = [(known[t][0], v) for t, v in b["top"][:50] if len(known.get(t, [])) == 1]
        assert len(pairs) > 20, (len(pairs), b["top"][:50])
        row(model, f"GGUF {outtype}, {name}", where, max(abs(x - y) for x, y in pairs), TOLERANCE[outtype], f"{len(pairs)} tokens")


def tokens(model, checkpoint, work, node, file):
    """Ids of texts that are easy to get wrong."""
    texts = work / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": t, "tokenize": True, "images": []}) + "\n" for t in TEXTS))
    done = subprocess.run(["node", TOP / "bench/export/llama.js", file, "-", texts], capture_output=True, text=True,
                          env={**os.environ, "NODE_PATH": str(node / "node_modules")})
    theirs = [json.loads(line.split(" ", 1)[1])["ids"] for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    processor = AutoTokenizer.from_pretrained(checkpoint)
    other = [t for t, ids in zip(TEXTS, theirs, strict=True) if processor(t, add_special_tokens=False).input_ids != ids]
    print(other)
    row(model, "GGUF", f"texts of {len(TEXTS)} with other ids than Hugging Face's tokenizer", len(other), 0)


def patterned(checkpoint, out, kinds):
    """The same weights with other layers global."""
    shutil.copytree(checkpoint, out)
    changed = config(checkpoint)
    text = changed.get("text_config", changed)
    text["layer_types"] = [{"s": "sliding_attention", "f": "full_attention"}[kinds[i % len(kinds)]] for i in range(text["num_hidden_layers"])]
    (out / "config.json").write_text(json.dumps(changed))
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("models", nargs="+", type=Path)
    p.add_argument("--work", required=True, type=Path)
    p.add_argument("--node", type=Path)
    p.add_argument("--table", type=Path)
    p.add_argument("--heads", nargs="+", choices=("tied", "untied"), default=["tied", "untied"])
    p.add_argument("--outtypes", nargs="+", choices=TOLERANCE, default=list(TOLERANCE))
    a = p.parse_args()
    for base in a.models:
        work = a.work / base.name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        tied = untied = None
        if "tied" in a.heads:
            tied = merged(base.name, base, work, "tied", None, r=8, lora_alpha=16)
        if "untied" in a.heads:
            untied = merged(base.name, base, work, "untied", ["lm_head", "embed_tokens"], r=16, lora_alpha=4, use_rslora=True)
        if a.node and tied:
            for outtype in a.outtypes:
                llama(base.name, tied, work, a.node, "tied", outtype)
            tokens(base.name, tied, work, a.node, work / f"tied-{a.outtypes[0]}" / f"tied-merged-{a.outtypes[0]}.gguf")
            if "f32" in a.outtypes:
                for kinds in ("ssf", "sf"):
                    llama(base.name, patterned(tied, work / f"layers-{kinds}", kinds), work, a.node, f"layers {kinds}...", "f32")
        if a.node and untied:
            for outtype in [t for t in ("f32", "q8_0") if t in a.outtypes]:
                llama(base.name, untied, work, a.node, "untied", outtype)
    if a.table:
        a.table.write_text("\n".join(rows) + "\n")
    if failures:
        sys.exit(f"{len(failures)} failed")
    print(f"{len(rows)} figures, all within their limits")


if __name__ == "__main__":
    main()
