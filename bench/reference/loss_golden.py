"""Writes OUT (JSON): conversations, and which of their tokens TRL trains on.

  assistant   ids and mask of TRL's training template of Gemma 3 ({% generation %} spans), text only
  completion  ids of prompt and whole as TRL tokenises them; what follows the prompt is trained on
  texts       the same of a prompt and a completion that are texts: no template, <eos> at the end

    python loss_golden.py java/engine/src/test/resources/lapidary/gemma3/tiny java/engine/src/test/resources/lapidary/data/loss_golden.json
"""
import tvfix  # noqa: F401  (before transformers)
import json
import sys
from pathlib import Path

import trl
from transformers import AutoTokenizer

model, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model)
template = (Path(trl.__file__).parent / "chat_templates" / "gemma3_training.jinja").read_text()
say = lambda *turns, system=None: ([{"role": "system", "content": system}] if system else []) + [
    {"role": r, "content": c} for r, c in zip(("user", "assistant") * 9, turns)]
talks = [say("What shape is this?", "A circle."), say("a", "b", "c", "d", system=" sys \n"), say("q\n\n", "\n\n a\n\nb  "),
         say("é 你好 😀", "😀é \u2581 x", "\t", "\u0001"), say("model\n", "user\n", "assistant", "model")]
assistant, completion = [], []
for messages in talks:
    made = tokenizer.apply_chat_template(messages, chat_template=template, return_dict=True, return_assistant_tokens_mask=True)
    assistant.append({"messages": messages, "ids": made["input_ids"], "mask": made["assistant_masks"]})
    prompt = messages[:-1]
    completion.append({
        "messages": messages, "prompt": len(prompt),
        "prompt_ids": tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"],
        "ids": tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]})
texts = []
for prompt, answer in [("What shape is this?", " A circle."), ("a ", "b<eos>"), ("é 你好 ", "😀é \u2581 x\n\n"),
                       ("<start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\n", "a<end_of_turn>\n"), ("co", "lour")]:
    whole = answer if answer.endswith(tokenizer.eos_token) else answer + tokenizer.eos_token     # SFTTrainer's add_eos
    texts.append({"prompt": prompt, "completion": answer, "prompt_ids": tokenizer(text=prompt)["input_ids"],
                  "ids": tokenizer(text=prompt + whole)["input_ids"]})
Path(out).write_text(json.dumps({"assistant": assistant, "completion": completion, "texts": texts}, indent=0) + "\n")
