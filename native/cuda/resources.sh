#!/bin/sh
# resources.sh [ARCHITECTURE...]: registers, spilled bytes, shared memory and the occupancy that they allow, of every kernel, as
# a Markdown table (default: sm_90a). Fails where a kernel spills. Needs nvcc; no GPU. KEEP=FOLDER keeps ptxas's words.
set -eu
cd "$(dirname "$0")"
nvcc=${NVCC:-nvcc}
ptxas=${PTXAS:-$(dirname "$(readlink -f "$(command -v "$nvcc")")")/ptxas}
[ -x "$ptxas" ] || ptxas=${CUDA_HOME:-/usr/local/cuda}/bin/ptxas
out=${KEEP:-$(mktemp -d)}
[ -n "${KEEP:-}" ] || trap 'rm -rf "$out"' EXIT
mkdir -p "$out"
spills=0
for arch in "${@:-sm_90a}"; do
    : >"$out/$arch.log"
    for f in *.cu; do
        unit=${f%.cu}
        "$nvcc" -std=c++17 -O3 -I../include -arch="compute_${arch#sm_}" -ptx "$f" -o "$out/$unit.ptx"
        # The threads of a block, which ptxas does not tell.
        awk '/\.entry/ { match($0, /_Z[A-Za-z0-9_]*/); name = substr($0, RSTART, RLENGTH) }
             /\.maxntid/ { print "threads " name " " $2 + 0 }' "$out/$unit.ptx" >>"$out/$arch.log"
        "$ptxas" -arch="$arch" -O3 -v "$out/$unit.ptx" -o /dev/null 2>&1 | sed "s/^/$unit: /" >>"$out/$arch.log"
    done
    echo
    echo "| $arch, kernel | threads | registers | spilled bytes | shared bytes, static + dynamic | warps of a multiprocessor | bound by |"
    echo "|---|---|---|---|---|---|---|"
    # A name as c++filt writes it: kt::(anonymous namespace)::kernel<...>(...).
    sed 's/\$/_/g' "$out/$arch.log" | c++filt | sed 's/(anonymous namespace)::/ /g; s/kt:: //g; s/__nv_bfloat16/bf16/g; s/float/f32/g' | awk -v arch="$arch" '
        function numbers(text) { n = split(text, list, /[^0-9]+/); k = 0; for (i = 1; i <= n; i++) if (list[i] != "") p[++k] = list[i] }
        # What the launchers ask for: the structs of attention_tiles.cu, attention_hopper.cu, attention_plain.cu, decode.cu and nf4_linear.cu.
        function dynamic(unit, name) {
            args = name; sub(/^[^<]*/, "", args); gsub(/\([a-z]+\)/, "", args); numbers(args)
            if (unit == "attention_tiles") {
                if (name ~ /^forward/) return 2 * (p[1] + 8) * (64 + 4 * p[2])
                if (name ~ /query/) return 2 * (p[1] + 8) * (128 + 4 * p[2])
                return 4 * (p[1] + 8) * (p[2] + p[5] * p[3]) + 4 * p[2] * (p[3] + 8) + 8 * p[3]
            }
            if (unit == "attention_hopper") {
                alone = p[1] > 128
                if (name ~ /forward/) return 2 * p[1] * (64 * p[2] + 4 * 64) + (alone ? 2 * 4 * 64 : 0)
                if (name ~ /query/) return 2 * p[1] * (2 * 64 * p[2] + (alone ? 3 : 4) * 64) + (alone ? 2 * 4 * 64 : 0)
                return 2 * p[1] * (2 * 64 * (alone ? 1 : p[2]) + 4 * 64) + 4 * 4 * 64 + (alone ? 4 * 64 * 64 + 2 * 16 * 64 : 0)
            }
            if (unit == "attention_plain") return 4 * (2 * 256 + 64) * 4
            if (unit == "decode" && name ~ /cached/) return 4 * (256 + 32) * 4
            if (unit == "nf4_linear" && name ~ /tiles/) return 4 * 64 * 72 * 2 + 64
            return 0
        }
        function least(a, b) { return a < b ? a : b }
        /^threads / { key = $0; sub(/^threads /, "", key); t = key; sub(/.* /, "", t); sub(/ [0-9]+$/, "", key); threads[key] = t; next }
        /Compiling entry function/ { split($0, part, "\047"); full = part[2]; unit = $1; sub(/:.*/, "", unit) }
        /spill stores/ { for (i = 1; i <= NF; i++) if ($i == "spill" && $(i + 1) ~ /stores/) spill = $(i - 2) }
        /Used [0-9]+ registers/ {
            match($0, /Used [0-9]+/); regs = substr($0, RSTART + 5, RLENGTH - 5)
            static = 0
            if (match($0, /[0-9]+ bytes smem/)) static = substr($0, RSTART, RLENGTH) + 0
            name = full; sub(/\([^()]*(\([^()]*\)[^()]*)*\)$/, "", name); sub(/^void +/, "", name); gsub(/^ +/, "", name); gsub(/  +/, " ", name)
            gsub(/\((bool|int)\)/, "", name)
            t = threads[full] + 0; if (t == 0) { print unit ": " name " has no __launch_bounds__"; next }
            d = dynamic(unit, name)
            most = arch ~ /sm_(89|120)/ ? 48 : 64                      # warps
            room = arch ~ /sm_(89|120)/ ? 102400 : arch ~ /sm_80/ ? 167936 : 233472
            warps = int((t + 31) / 32)
            by_regs = int(65536 / (int((regs + 7) / 8) * 8 * 32) / 4) * 4 / warps
            blocks = int(most / warps); bound = "threads"
            if (arch !~ /sm_(89|120)/ && blocks > 32) { blocks = 32; bound = "blocks" }
            if (int(by_regs) < blocks) { blocks = int(by_regs); bound = "registers" }
            by_room = int(room / (1024 + int((static + d + 127) / 128) * 128))
            if (by_room < blocks) { blocks = by_room; bound = "shared memory" }
            printf "| %s: %s | %d | %d | %d | %d + %d | %d of %d | %s |\n", unit, name, t, regs, spill, static, d, blocks * warps, most, bound
        }' | sort >"$out/$arch.table"
    cat "$out/$arch.table"
    if awk -F'|' '$5 > 0 { bad = 1 } END { exit !bad }' "$out/$arch.table"; then spills=1; fi
done
if [ $spills = 1 ]; then
    echo "some kernels spill" >&2
    exit 1
fi
