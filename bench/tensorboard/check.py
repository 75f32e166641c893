"""TensorBoard's own reader, and torch's writer, beside the engine's event files.

    mvn -q -DskipTests package && python bench/tensorboard/check.py [FOLDER]

Needs tensorboard and torch (checked with 2.21 and 2.13). Trains the demo's model twice, once in one go and once stopped by SIGTERM
and gone on with, and checks that EventAccumulator reads from both the values of trainer_state.json under the tags of transformers'
`rewrite_logs`, each step once, and the texts as torch's SummaryWriter writes them. The runs stay in FOLDER, to be looked at with
`tensorboard --logdir FOLDER`.
"""
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tensorboard.backend.event_processing import event_accumulator as ea

TOP = Path(__file__).resolve().parents[2]
DEMO = TOP / "java/engine/src/main/resources/lapidary/demo"


def check(what, holds, detail=""):
    if not holds:
        sys.exit(f"FAILED: {what} {detail}")
    print(f"ok: {what}", flush=True)


def command(output):
    return [str(TOP / "engine"), "train", "--model_name_or_path", str(DEMO / "base"), "--dataset_name", str(DEMO / "data"),
            "--output_dir", str(output), "--max_steps", "60", "--logging_steps", "2", "--learning_rate", "4e-3", "--dtype", "float32",
            "--eval_strategy", "steps", "--eval_steps", "20", "--per_device_eval_batch_size", "50", "--warmup_steps", "10",
            "--lr_scheduler_type", "cosine", "--report_to", "tensorboard", "--resume_from_checkpoint", "true", "--device", "cpu"]


def read(output):
    runs = list((output / "runs").iterdir())
    check(f"{output.name}: one run", len(runs) == 1, runs)
    reader = ea.EventAccumulator(str(runs[0]), size_guidance={ea.SCALARS: 0, ea.TENSORS: 0})
    reader.Reload()
    return reader, runs[0]


def compare(output):
    reader, run = read(output)
    expected = {}
    for entry in json.loads((output / "trainer_state.json").read_text())["log_history"]:
        for name, value in entry.items():
            if name != "step":
                tag = "eval/" + name[5:] if name.startswith("eval_") else "train/" + name
                expected.setdefault(tag, {})[entry["step"]] = value
    tags = set(reader.Tags()["scalars"])
    check(f"{output.name}: {len(expected)} tags of the log", set(expected) <= tags, set(expected) - tags)
    for tag, values in expected.items():
        events = reader.Scalars(tag)
        found = {e.step: e.value for e in events}
        check(f"{output.name}: {tag}, {len(values)} steps", found.keys() == values.keys()
              and all(abs(found[s] - v) <= 1e-6 * abs(v) + 1e-38 for s, v in values.items()), (found, values))
        if tag != "train/epoch":  # told beside losses and beside evaluations, as transformers does
            check(f"{output.name}: {tag}, each once", len(events) == len(values))
    return reader, run


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    whole, parts = folder / "whole", folder / "parts"
    subprocess.run(command(whole), check=True, stdout=subprocess.DEVNULL)
    with open(folder / "parts.log", "w") as log:
        first = subprocess.Popen(command(parts), stdout=log)
        while first.poll() is None and "step 30/" not in (folder / "parts.log").read_text():
            time.sleep(0.05)
        first.send_signal(signal.SIGTERM)
        check("the first part is stopped in good order", first.wait() == 0)
    subprocess.run(command(parts), check=True, stdout=subprocess.DEVNULL)
    one, run = compare(whole)
    two, _ = compare(parts)
    check("two files in parts", len(list((parts / "runs").glob("*/events.out.tfevents.*"))) == 2)
    check("the same losses", [(e.step, e.value) for e in one.Scalars("train/loss")] == [(e.step, e.value) for e in two.Scalars("train/loss")])

    from torch.utils.tensorboard import SummaryWriter
    with SummaryWriter(str(folder / "torch")) as writer:
        config = (DEMO / "base/config.json").read_text()
        writer.add_text("model_config", config)
    torch = ea.EventAccumulator(str(folder / "torch"))
    torch.Reload()
    theirs, ours = torch.Tensors("model_config/text_summary")[0], one.Tensors("model_config/text_summary")[0]
    check("texts as torch writes them", theirs.tensor_proto == ours.tensor_proto and theirs.step == ours.step
          and torch.SummaryMetadata("model_config/text_summary") == one.SummaryMetadata("model_config/text_summary"))
    check("options among the texts", json.loads(one.Tensors("args/text_summary")[0].tensor_proto.string_val[0])["max_steps"] == 60)
    print(folder)


main()
