"""Greedy answers of Transformers and PEFT to the questions of lapidary.infer's tests.

  generate_golden.py --base java/engine/src/main/resources/lapidary/demo/base --adapter DIR --pictures DIR/data --out OUT

DIR is what `engine train --demo` wrote: its adapter is a trained one. OUT gets
  adapter/        that adapter, values rounded to bfloat16
  greedy.json     cases: name, adapter (whether it is on), nf4 (whether linear layers are quantised on load), messages whose
                  images are row numbers of OUT's pictures, prompt (how many tokens), ids (64 that were generated; nothing
                  ends an answer), all float32
  pictures/N.png  the pictures

Run it with bitsandbytes' pure Python backend, see nf4_golden.py, and TORCHDYNAMO_DISABLE=1.
"""
import argparse, io, json, os, shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import tvfix  # noqa: F401
import pyarrow.parquet as pq
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

NEW = 64


def user(*parts):
    return {"role": "user", "content": [{"type": "image", "image": p} if isinstance(p, int) else
                                        {"type": "text", "text": p} for p in parts]}


def model_turn(text):
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


LONG = " ".join(f"The {c} square is {s} the circle, and nobody asks why." for c in ("red", "blue", "green", "yellow")
                for s in ("left of", "right of", "above", "below"))
CONVERSATIONS = {
    "text": [user("What color is the square?")],
    "long_text": [user(LONG + " What color is the circle?")],
    "one_image": [user(0, "What color is the square?")],
    "image_behind_words": [user("Look at this.", 1, "How many shapes are there?")],
    "several_images": [user(0, "and", 1, "and", 2, "Which of these has a circle?")],
    "turns": [user(0, "What color is the circle?"), model_turn("Blue"), user("And the square?", 1),
              model_turn("It is red, and it is large."), user("How many shapes are there in all?")],
}


def main():
    ap = argparse.ArgumentParser()
    for name in ("base", "adapter", "pictures", "out"):
        ap.add_argument("--" + name, type=Path, required=True)
    a = ap.parse_args()
    (a.out / "pictures").mkdir(parents=True, exist_ok=True)
    (a.out / "adapter").mkdir(exist_ok=True)
    save_file({k: v.bfloat16() for k, v in load_file(a.adapter / "adapter_model.safetensors").items()},
              a.out / "adapter" / "adapter_model.safetensors", {"format": "pt"})
    config = json.loads((a.adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    (a.out / "adapter" / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    rows = pq.read_table(sorted(a.pictures.glob("test*.parquet"))[0]).to_pylist()
    pictures = []
    for i in range(3):
        encoded = rows[i]["images"][0]["bytes"]
        (a.out / "pictures" / f"{i}.png").write_bytes(encoded)
        pictures.append(Image.open(io.BytesIO(encoded)).convert("RGB"))
    processor = AutoProcessor.from_pretrained(a.base)
    cases = []
    for nf4 in (False, True):
        for adapter in (False, True):
            quant = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                       bnb_4bit_compute_dtype=torch.float32) if nf4 else None
            model = AutoModelForImageTextToText.from_pretrained(
                a.base, dtype=torch.float32, attn_implementation="eager", quantization_config=quant, device_map="cpu")
            if nf4:
                model = model.dequantize()                 # once: the pure Python backend would do it for every token
            if adapter:
                model = PeftModel.from_pretrained(model, a.out / "adapter", autocast_adapter_dtype=False)
                model = model.float()                      # the factors are stored in bfloat16
            model.eval()
            model.generation_config.eos_token_id = None
            for name, messages in CONVERSATIONS.items():
                images = [pictures[p["image"]] for m in messages for p in m["content"] if p["type"] == "image"]
                text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
                batch = processor(text=text, images=[images] if images else None, return_tensors="pt",
                                  add_special_tokens=False)
                prompt = batch["input_ids"].shape[1]
                with torch.no_grad():
                    ids = model.generate(**batch, max_new_tokens=NEW, do_sample=False, eos_token_id=None)[0, prompt:]
                cases.append({"name": name, "adapter": adapter, "nf4": nf4, "messages": messages, "prompt": prompt,
                              "ids": ids.tolist()})
                print(name, adapter, nf4, prompt, processor.tokenizer.decode(ids)[:100].replace("\n", " "))
    (a.out / "greedy.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


main()
