"""Writes java/engine/src/test/resources/lapidary/op/rope.txt: rows of cos and sin of Transformers' Gemma 3 rotary
embedding, a line a position: theta, factor, head_dim, last position of the case, position, then head_dim/2 cosines and
as many sines as F32 bits. Made with torch 2.13.0, transformers 5.18.0:

    python rope_golden.py > rope.txt
"""
import struct

import torch
from transformers.models.gemma3.configuration_gemma3 import Gemma3TextConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding

CASES = [  # theta, factor, head_dim, positions
    (1e6, 8.0, 256, [0, 1, 2, 17, 500, 1023]),
    (1e4, 1.0, 256, [0, 1, 3, 255, 777, 1023]),
    (1e6, 8.0, 128, [1, 5, 4095, 8191]),
    (1e4, 1.0, 32, [1, 2, 999, 2047, 131071]),
    (1e6, 1.0, 72, [1, 33, 4096]),
]


def bits(x):
    return " ".join("%08x" % struct.unpack("<I", struct.pack("<f", v))[0] for v in x.tolist())


for theta, factor, head_dim, positions in CASES:
    scaling = {"rope_type": "default", "rope_theta": theta}
    if factor != 1.0:
        scaling = {"rope_type": "linear", "factor": factor, "rope_theta": theta}
    config = Gemma3TextConfig(
        head_dim=head_dim,
        num_hidden_layers=6,
        rope_parameters={"full_attention": scaling, "sliding_attention": scaling},
    )
    rope = Gemma3RotaryEmbedding(config)
    cos, sin = rope(torch.zeros(1, 1, dtype=torch.float32), torch.tensor([positions]), "full_attention")
    half = head_dim // 2
    for i, position in enumerate(positions):
        print(theta, factor, head_dim, max(positions), position, bits(cos[0, i, :half]), bits(sin[0, i, :half]))
