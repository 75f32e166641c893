"""What gpu_trace.cpp recorded, as a table: share of the time by kernel in the last steps, and how long the GPU had nothing to do.

  gpu_trace.py TRACE.tsv [--step-ends adamw] [--top 40]

A step ends with the last kernel of a run of those whose name holds --step-ends; the first step, which makes everything ready, is
left out.
"""
import argparse, collections, re

ap = argparse.ArgumentParser()
ap.add_argument("trace")
ap.add_argument("--step-ends", default="adamw")
ap.add_argument("--top", type=int, default=40)
a = ap.parse_args()
rows = []
for line in open(a.trace):
    start, end, nbytes, name = line.rstrip("\n").split("\t", 3)
    rows.append((int(start), int(end), int(nbytes), name))
rows.sort()
ends = [i for i, r in enumerate(rows) if a.step_ends in r[3] and not any(a.step_ends in s[3] for s in rows[i + 1:i + 40])]
first, last = (ends[0] + 1, ends[-1] + 1) if len(ends) > 1 else (0, len(rows))
steps = max(1, len(ends) - 1)
rows = rows[first:last]


def short(name):
    name = re.sub(r"\(anonymous namespace\)::|kt::|void ", "", name)
    name = re.sub(r"\((?:[^()]|\([^()]*\))*\)$", "", name)
    return name if len(name) <= 90 else name[:87] + "..."


time, calls, moved = collections.Counter(), collections.Counter(), collections.Counter()
busy, until = 0, 0
for start, end, nbytes, name in rows:
    name = short(name)
    time[name] += end - start
    calls[name] += 1
    moved[name] += nbytes
    busy += max(0, end - max(start, until))
    until = max(until, end)
span = rows[-1][1] - rows[0][0]
print(f"{steps} steps of {span / steps / 1e6:.1f} ms, busy {100 * busy / span:.1f} %, {len(rows) / steps:.0f} calls a step\n")
print("| ms a step | share | calls a step | us a call | what |\n|---|---|---|---|---|")
for name, ns in time.most_common(a.top):
    extra = f", {moved[name] / steps / 1e6:.1f} MB a step" if moved[name] else ""
    print(f"| {ns / steps / 1e6:.2f} | {100 * ns / span:.1f} % | {calls[name] / steps:.0f} | {ns / calls[name] / 1e3:.1f} | {name}{extra} |")
