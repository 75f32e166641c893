#!/bin/bash
# mutants.sh [PATTERN] [SLICE/SLICES]: plants the mistakes of mutants.txt whose names match, one by one, and says which build
# of the emulation notices each: wrong (a test's number), error (the emulation's report), asan, crash, hang; or that none does.
# After check.sh, whose builds and compiled tests it uses. LIST=FILE names another list. Tries in turn, and stops at the first that notices:
#   plain; plain with threads and copies in reverse; race; asan
set -u
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
pattern=${1:-.}
slice=${2:-1/1}
cd "$top/java/engine" || exit 1
build=$PWD/target/native-build
out=$PWD/target/emulation/mutants-${slice%/*}
rm -rf "$out" && mkdir -p "$out"
java=$(sed -n 's/.*CUDA_ON_CPU_ORDER=$2 "\([^"]*\)".*/\1/p' target/emulation/one.sh)
classpath=$PWD/target/test-classes:$PWD/target/classes:$(cat target/emulation/classpath)
common="-std=c++17 -w -fPIC -fno-strict-aliasing -fno-gnu-unique -I$top/native/test/emulation -I$top/native/include"
declare -A flags=([plain]="-O1 -ffp-contract=fast" [race]="-O1 -g1 -fsanitize=thread -fno-threadsafe-statics -ffp-contract=off"
    [asan]="-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -ffp-contract=off")
declare -A link=([plain]="" [race]="" [asan]="-fsanitize=address,undefined")
[[ $(uname -m) == x86_64 ]] && flags[plain]+=" -mavx2 -mfma"

# BUILD UNIT: the library with the mutant's unit in place of the unit.
library() {
    local objects=() o
    [[ -f $out/$1.so ]] && return
    ${CXX:-c++} $common ${flags[$1]} -I"$out/cuda" -x c++ -c "$out/cuda/$2.cu" -o "$out/$1.o" 2>"$out/$1.compile" || return
    for o in "$build/CMakeFiles/lapidary_emulated_$1.dir/emulation"/*.o; do [[ $o == */$2.cpp.o ]] || objects+=("$o"); done
    ${CXX:-c++} -shared ${link[$1]} "$out/$1.o" "${objects[@]}" $(find "$build/CMakeFiles/machine_$1.dir" -name '*.o') -o "$out/$1.so" 2>>"$out/$1.compile"
}

# BUILD ORDER TESTS: what was noticed, or nothing.
attempt() {
    local one class methods log=$out/log code preload=
    [[ $1 == asan ]] && preload=$(${CXX:-c++} -print-file-name=libasan.so)
    IFS=';' read -ra each <<<"$3"
    for one in "${each[@]}"; do
        class=$(cd target/test-classes && find . -name "${one%%:*}.class" | sed 's#^\./##; s#\.class$##; s#/#.#g')
        methods=.*
        [[ $one == *:* ]] && methods=${one#*:}
        (   # seconds of the processor's time, which other work on the machine does not shorten
            ulimit -t "${LIMIT:-200}"
            LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0,handle_segv=0 CUDA_ON_CPU_ORDER=$2 exec "$java" -XX:TieredStopAtLevel=1 -Xmx1g --enable-native-access=ALL-UNNAMED \
                -XX:ErrorFile=/dev/null -XX:-CreateCoredumpOnCrash \
            -Dtest.devices=emulated -Dtest.emulation="$out/$1.so" -Dtest.cuda="$build/cuda-test" -Dtest.methods="$methods" -Dtest.stop=true \
            -cp "$classpath" lapidary.RunTests "$class"
        ) >"$log" 2>&1
        code=$?
        if [[ $code == 0 ]]; then continue; fi
        if [[ $code == 152 || $code == 137 ]]; then echo hang
        elif grep -q 'nothing passed' "$log" && ! grep -q FAILED "$log"; then continue
        elif grep -q 'AddressSanitizer\|runtime error:' "$log"; then echo asan
        elif grep -q 'block ([0-9]' "$log"; then echo error
        elif grep -q FAILED "$log"; then echo wrong
        else echo crash; fi
        return
    done
}

number=0 noticed=0 total=0
while IFS='|' read -r name file unit tests edit; do
    [[ -z $name || $name == \#* ]] && continue
    name=${name% } file=${file// /} unit=${unit// /} tests=${tests// /} edit=${edit# }
    number=$((number + 1))
    [[ $name =~ $pattern ]] || continue
    ((number % ${slice#*/} == ${slice%/*} % ${slice#*/})) || continue
    total=$((total + 1))
    rm -rf "$out"/* && mkdir "$out/cuda"
    cp "$top"/native/cuda/* "$out/cuda/"
    sed -i "$edit" "$out/cuda/$file"
    if cmp -s "$top/native/cuda/$file" "$out/cuda/$file"; then
        printf '%-62s the edit changes nothing\n' "$name"
        continue
    fi
    verdict=
    for run in "plain plain" "plain reversed" "race plain" "asan plain"; do
        set -- $run
        library "$1" "$unit"
        if [[ ! -f $out/$1.so ]]; then
            verdict="does not compile: $(grep -m1 error "$out/$1.compile")"
            break
        fi
        found=$(attempt "$1" "$2" "$tests")
        [[ -n $found ]] && verdict="$run: $found" && noticed=$((noticed + 1)) && break
    done
    printf '%-62s %s\n' "$name" "${verdict:-NOT NOTICED}"
done <"${LIST:-$here/mutants.txt}"
echo "$noticed of $total noticed"
