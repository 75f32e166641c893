"""Greedy answers of Transformers and PEFT about long pictures, whole and with pan-and-scan: golden values of lapidary.infer.

  pan_and_scan_golden.py --base java/engine/src/main/resources/lapidary/demo/base --golden DIR

DIR holds adapter/ and pictures/0.png to 2.png of generate_golden.py. It gets
  pictures/3.png      a wide one, of which three crops are made; 4.png a tall one, two crops; 5.png too small to be cut
  pan_and_scan.json   cases: name, adapter (whether it is on), pan_and_scan (whether the processor is called with
                      do_pan_and_scan=True), messages whose images are numbers of pictures, prompt (how many tokens), ids (32
                      that were generated; nothing ends an answer), all float32
"""
import argparse, json, os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import tvfix  # noqa: F401
import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

NEW = 32


def user(*parts):
    return {"role": "user", "content": [{"type": "image", "image": p} if isinstance(p, int) else
                                        {"type": "text", "text": p} for p in parts]}


CONVERSATIONS = {
    "wide": [user(3, "What color is the square?")],
    "tall_and_small": [user("Look at", 4, "and at", 5, "and say: how many shapes are there?")],
}


def joined(pictures, side, wide):
    size = (side * len(pictures), side) if wide else (side, side * len(pictures))
    out = Image.new("RGB", size)
    for i, picture in enumerate(pictures):
        out.paste(picture.resize((side, side), Image.NEAREST), (i * side, 0) if wide else (0, i * side))
    return out


def main():
    ap = argparse.ArgumentParser()
    for name in ("base", "golden"):
        ap.add_argument("--" + name, type=Path, required=True)
    a = ap.parse_args()
    small = [Image.open(a.golden / "pictures" / f"{i}.png").convert("RGB") for i in range(3)]
    pictures = {3: joined(small, 300, True), 4: joined(small[:2], 300, False), 5: joined(small[1:], 112, True)}
    for i, picture in pictures.items():
        picture.save(a.golden / "pictures" / f"{i}.png", optimize=True)
    processor = AutoProcessor.from_pretrained(a.base)
    cases = []
    for adapter in (False, True):
        model = AutoModelForImageTextToText.from_pretrained(a.base, dtype=torch.float32, attn_implementation="eager")
        if adapter:
            model = PeftModel.from_pretrained(model, a.golden / "adapter", autocast_adapter_dtype=False).float()
        model.eval()
        model.generation_config.eos_token_id = None
        for cut in (False, True):
            for name, messages in CONVERSATIONS.items():
                images = [pictures[p["image"]] for m in messages for p in m["content"] if p["type"] == "image"]
                text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
                batch = processor(text=text, images=[images], return_tensors="pt", add_special_tokens=False,
                                  do_pan_and_scan=cut)
                prompt = batch["input_ids"].shape[1]
                with torch.no_grad():
                    ids = model.generate(**batch, max_new_tokens=NEW, do_sample=False, eos_token_id=None)[0, prompt:]
                cases.append({"name": name, "adapter": adapter, "pan_and_scan": cut, "messages": messages,
                              "prompt": prompt, "ids": ids.tolist()})
                print(name, adapter, cut, prompt, processor.tokenizer.decode(ids)[:100].replace("\n", " "))
    (a.golden / "pan_and_scan.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


main()
