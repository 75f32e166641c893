"""Writes golden files for the tests of lapidary.format, with safetensors 0.8.0 and Python's json:

  OUT/mixed.safetensors   several dtypes, a scalar, an empty tensor, names that need escaping
  OUT/adapter.safetensors what PEFT writes: one dtype, metadata {"format": "pt"}
  OUT/floats.txt          bits of a double in hexadecimal, a space, Python's repr
  OUT/sorted.json, OUT/line.json, OUT/unicode.json   json.dumps of VALUE with the options that the names say

    python make_format_golden.py java/engine/src/test/resources/lapidary/format
"""
import json, random, struct, sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
ramp = lambda *shape: torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape) / 4
save_file({"b.f32": ramp(3, 5), "a.f32": ramp(2), "é\n\x01\"\\ 😀": ramp(4).to(torch.bfloat16), "z.f16": ramp(3).half(),
           "scalar": torch.tensor(7, dtype=torch.int64), "empty": torch.zeros(0, 9), "bytes": torch.arange(5, dtype=torch.uint8),
           "flags": torch.tensor([True, False, True]), "￿": ramp(1), "😀": ramp(1)}, out / "mixed.safetensors",
          {"format": "pt"})
save_file({f"base_model.model.layers.{i}.{p}_proj.lora_{ab}.weight": ramp(2, 3).to(torch.bfloat16) + i
           for i in range(11) for p in "qk" for ab in "BA"}, out / "adapter.safetensors", {"format": "pt"})

rng = random.Random(0)
floats = [0.0, -0.0, 5e-324, 2e-323, 2.2250738585072014e-308, 1.7976931348623157e308, 1e-5, 2e-5, 1e-4, 0.1, 1 / 3, 1e15,
          1e16, 123456789012345680.0, 9007199254740993.0, 1e22, 1e23, 4.35, 100.0, 2e-44, 9.5e-5]
floats += [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(1000)]
floats += [rng.uniform(0, 20) for _ in range(300)] + [2e-5 * k / 300 for k in range(300)]
floats += [float(f"{rng.randint(1, 9)}e{k}") for k in range(-323, 308)]
floats += [float(np.float32(rng.uniform(0, 9))) for _ in range(200)]
(out / "floats.txt").write_text("".join(
    f"{struct.unpack('<Q', struct.pack('<d', x))[0]:016x} {x!r}\n" for x in floats if x == x and abs(x) < float("inf")))

VALUE = {"z": None, "a": [1, 2.5, True, False, [], {}, [[]], {"x": {}}], "": "", "é": "naïve 你好 😀 \u2028 \x7f \x00\x1f\b\f\n\r\t\"\\/",
         "\uffff": 1e-5, "😀": -3, "big": 1000000000000000019884624838656, "nan": float("nan"), "inf": [float("inf"), -float("inf")],
         "nested": {"b": [{"k": "v"}, 1e16], "B": 0.0}}
(out / "sorted.json").write_text(json.dumps(VALUE, indent=2, sort_keys=True))
(out / "line.json").write_text(json.dumps(VALUE))
(out / "unicode.json").write_text(json.dumps(VALUE, indent=2, ensure_ascii=False), encoding="utf-8")
