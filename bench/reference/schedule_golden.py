"""Writes java/engine/src/test/resources/lapidary/optim/schedules.json: the learning rate of every step, the one after the
last included, under each of transformers' schedules. Made with torch 2.13.0, transformers 5.18.0:

    python schedule_golden.py schedules.json
"""
import json
import sys
from types import SimpleNamespace

import tvfix  # noqa: F401
import torch
from transformers import TrainingArguments, get_scheduler

KWARGS = {
    "linear": [{}],
    "cosine": [{}, {"num_cycles": 1.75}],
    "cosine_with_restarts": [{}, {"num_cycles": 3}],
    "cosine_with_min_lr": [{"min_lr": 1e-5}, {"min_lr_rate": 0.1}, {"min_lr_rate": 0.25, "num_cycles": 1.5}],
    "cosine_warmup_with_min_lr": [{"min_lr": 1e-5}, {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2, "num_cycles": 1.5}],
    "polynomial": [{}, {"lr_end": 1e-6, "power": 2.0}, {"power": 0.5}],
    "constant": [{}],
    "constant_with_warmup": [{}],
    "inverse_sqrt": [{}, {"timescale": 50}],
    "warmup_stable_decay": [
        {"num_decay_steps": 5},
        {"num_decay_steps": 4, "num_stable_steps": 2, "min_lr_ratio": 0.1},
        {"num_decay_steps": 6, "warmup_type": "cosine", "decay_type": "linear", "min_lr_ratio": 0.05},
        {"num_decay_steps": 6, "warmup_type": "1-sqrt", "decay_type": "1-sqrt"},
        {"num_decay_steps": 30, "num_cycles": 1.5},
    ],
}
# Steps of the run and its warm-up, in steps or below 1 as a share: none, some, a share, one, all but one, more than all.
RUNS = [(20, 0), (20, 5), (17, 0.1), (3, 1), (6, 5), (4, 7)]

cases = []
for name, variants in KWARGS.items():
    for kwargs in variants:
        for total, warmup in RUNS:
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3e-4)
            steps = TrainingArguments.get_warmup_steps(SimpleNamespace(warmup_steps=warmup), total)
            scheduler = get_scheduler(name, optimizer, steps, total, scheduler_specific_kwargs=dict(kwargs))
            rates = []
            for _ in range(total + 1):
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
            cases.append(dict(type=name, kwargs=kwargs, total=total, warmup=warmup, rates=rates))
with open(sys.argv[1], "w") as out:
    out.write('{"peak": 0.0003, "cases": [\n' + ",\n".join(json.dumps(c) for c in cases) + "\n]}\n")
