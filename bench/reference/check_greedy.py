"""Greedy answers of 64 tokens, token for token those of Transformers and PEFT: a check for models too large to keep goldens of.

  check_greedy.py --base DIR --adapter DIR --work DIR [--table FILE] [--weights float32 nf4]

DIR of --base is a checkpoint of make_model.py with a vision tower, that of --adapter a trained adapter of it, as `engine train` writes
(an untrained model repeats one token, which proves nothing). Everything is float32, the base plain and in NF4 (with double
quantisation); prompts with no, one and several pictures. Nothing ends an answer early. Each must be equal. Where one is not,
the first difference is printed with the two likeliest tokens' logits there, by which a tie is told from a mistake.

NF4 needs bitsandbytes' pure Python backend, see nf4_golden.py, and TORCHDYNAMO_DISABLE=1. target/engine.jar must be there.
"""
import argparse, json, os, shutil, subprocess, sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "bench/export"))
import tvfix  # noqa: F401
import torch
from check import JAVA
from peft import PeftModel
from PIL import Image, ImageDraw
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

NEW = 64


def user(*parts):
    return {"role": "user", "content": [{"type": "image", "image": p} if p.endswith(".png") else
                                        {"type": "text", "text": p} for p in parts]}


LONG = " ".join(f"The {c} square is {s} the circle, and nobody asks why." for c in ("red", "blue", "green", "yellow")
                for s in ("left of", "right of", "above", "below"))
CASES = {
    "text": [user("What color is the square?")],
    "text beyond the window": [user(LONG + " What color is the circle?")],
    "one picture": [user("0.png", "What color is the square?")],
    "several pictures": [user("0.png", "and", "1.png", "and", "2.png", "Which of these has a circle?")],
}


def pictures(folder):
    for i, (color, box) in enumerate([("red", (20, 30, 120, 130)), ("blue", (90, 60, 200, 170)), ("green", (10, 10, 220, 90))]):
        image = Image.new("RGB", (256, 192), "white")
        (ImageDraw.Draw(image).ellipse if i == 1 else ImageDraw.Draw(image).rectangle)(box, fill=color)
        image.save(folder / f"{i}.png")


def endless(base, out):
    """The model, without any token that ends an answer."""
    shutil.copytree(base, out)
    for name in ("config.json", "generation_config.json"):
        changed = json.loads((out / name).read_text())
        vocab = changed.get("text_config", {}).get("vocab_size", None)
        changed["eos_token_id"] = [vocab - 1] if vocab else endless.last
        endless.last = changed["eos_token_id"]
        (out / name).write_text(json.dumps(changed, indent=2))
    return out


def theirs(base, adapter, nf4, work):
    quant = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                               bnb_4bit_compute_dtype=torch.float32) if nf4 else None
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32, attn_implementation="eager",
                                                        quantization_config=quant, device_map="cpu")
    if nf4:
        model = model.dequantize()  # once: the pure Python backend would do it for every token
    model = PeftModel.from_pretrained(model, adapter, autocast_adapter_dtype=False).float().eval()
    processor = AutoProcessor.from_pretrained(base)
    for messages in CASES.values():
        images = [Image.open(work / p["image"]) for m in messages for p in m["content"] if p["type"] == "image"]
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        batch = processor(text=text, images=[images] if images else None, return_tensors="pt", add_special_tokens=False)
        with torch.no_grad():
            out = model.generate(**batch, max_new_tokens=NEW, do_sample=False, return_dict_in_generate=True, output_logits=True)
        prompt = batch["input_ids"].shape[1]
        tops = [step[0].topk(2).values.tolist() for step in out.logits]
        yield prompt, out.sequences[0, prompt:].tolist(), tops


def ours(base, adapter, nf4, work):
    (work / "prompts.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in CASES.values()))
    answers = work / "answers.jsonl"
    answers.unlink(missing_ok=True)
    subprocess.run([*JAVA, "-jar", str(TOP / "target/engine.jar"), "generate", "--model_name_or_path", str(base), "--in",
                    str(work / "prompts.jsonl"), "--out", str(answers), "--dtype", "float32", "--device", "cpu", "--temperature", "0",
                    "--max_new_tokens", str(NEW), *(["--load_in_4bit", "--use_bnb_nested_quant"] if nf4 else []),
                    "--adapter_name_or_path", str(adapter)], check=True)
    for line in answers.read_text().splitlines():
        answer = json.loads(line)
        yield answer["usage"]["prompt_tokens"], answer["token_ids"]


def main():
    p = argparse.ArgumentParser()
    for name in ("base", "adapter", "work"):
        p.add_argument("--" + name, type=Path, required=True)
    p.add_argument("--table", type=Path)
    p.add_argument("--weights", nargs="+", choices=("float32", "nf4"), default=("float32", "nf4"))
    a = p.parse_args()
    shutil.rmtree(a.work, ignore_errors=True)
    a.work.mkdir(parents=True)
    pictures(a.work)
    base = endless(a.base, a.work / "base")
    rows, bad = [], 0
    for weights in a.weights:
        mine = list(ours(base, a.adapter, weights == "nf4", a.work))
        for name, (prompt, ids), (expected_prompt, expected, tops) in zip(
                CASES, mine, theirs(base, a.adapter, weights == "nf4", a.work), strict=True):
            same = next((i for i, (x, y) in enumerate(zip(ids, expected)) if x != y), min(len(ids), len(expected)))
            good = same == NEW and prompt == expected_prompt
            bad += not good
            nearest = min(x - y for x, y in tops)
            rows.append(f"| {name} | {weights} | {prompt} | {same} of {NEW} | {len(set(expected))} | {nearest:.2g} |")
            print(rows[-1], flush=True)
            if not good:
                print("DIFFERENT:", ids, expected, tops[same:same + 1], prompt, expected_prompt, flush=True)
    if a.table:
        a.table.write_text("\n".join(rows) + "\n")
    sys.exit(f"{bad} of {len(rows)} differ" if bad else 0)


if __name__ == "__main__":
    main()
