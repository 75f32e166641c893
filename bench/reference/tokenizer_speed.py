"""Times Hugging Face tokenizers from Python on the texts that lapidary.bench.TokenizerComparison wrote.

  tokenizer_speed.py TOKENIZER.json target/tokenizer-corpora
"""
import os, statistics, sys, time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers

start = time.process_time()
t = tokenizers.Tokenizer.from_file(sys.argv[1])
print(f"tokenizers {tokenizers.__version__}: loading {1e3 * (time.process_time() - start):.0f} ms")
for file in sorted(Path(sys.argv[2]).glob("*.txt")):
    text = file.read_bytes().decode()
    times = []
    for _ in range(7):
        start = time.process_time()
        ids = t.encode_batch_fast([text], add_special_tokens=False)[0].ids
        times.append(time.process_time() - start)
    print(f"{file.stem}: {len(ids)} ids, {len(text.encode()) / 1e6 / statistics.median(times):.2f} MB/s")
