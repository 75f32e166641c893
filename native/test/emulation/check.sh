#!/bin/sh
# check.sh [orders] [asan] [race]: builds the kernels' emulations and runs their op tests, all parts by default:
#   orders  the plain build with threads ascending, descending and in two shuffled orders
#   asan    AddressSanitizer and UBSan
#   race    races, shared memory that nobody wrote, copies not awaited
# and first of all the emulation's own tests, in the builds of the parts. As many JVMs as there are cores; the logs are in
# java/engine/target/emulation. TESTS='RmsNormTest GeluTest' runs these instead of every test of kernels; MVN=-o is offline.
set -eu
parts=${*:-orders asan race}
top=$(cd "$(dirname "$0")/../../.." && pwd)
cd "$top/java/engine"
build=$PWD/target/native-build
logs=$PWD/target/emulation
mkdir -p "$logs"

# The compiled tests, what they need, and a JDK that runs them (the build asks Maven's toolchain for one).
(cd "$top" && mvn -q -B ${MVN:-} -pl java/engine test-compile -DskipTests dependency:build-classpath \
    -DincludeScope=test -Dmdep.outputFile="$logs/classpath") >"$logs/maven.log" 2>&1 || {
    cat "$logs/maven.log"
    exit 1
}
java=${JAVA:-}
if [ -z "$java" ]; then
    for home in "${JAVA_HOME:-}" /usr/lib/jvm/*; do
        [ -x "$home/bin/java" ] || continue
        version=$("$home/bin/java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
        [ "${version:-0}" -ge 22 ] && java=$home/bin/java && break
    done
fi
[ -n "$java" ] || { echo "no JDK >= 22: set JAVA" >&2; exit 1; }

wants() { case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
builds=
if wants orders; then builds="plain"; fi
if wants asan; then builds="$builds asan"; fi
if wants race; then builds="$builds race"; fi
for variant in $builds; do
    cmake -DBUILD="$build" "-DTARGETS=lapidary_emulated_$variant;emulation_test_$variant" -P "$top/cmake/Build.cmake" >"$logs/build-$variant.log" 2>&1 || {
        tail -n 40 "$logs/build-$variant.log"
        exit 1
    }
    "$build/emulation/emulation_test_$variant" >"$logs/emulation-$variant.log" 2>&1 || {
        cat "$logs/emulation-$variant.log"
        exit 1
    }
    echo "emulation_test $variant: $(tail -n 1 "$logs/emulation-$variant.log")"
done

cd src/test/java
names=
if [ -n "${TESTS:-}" ]; then
    for test in $TESTS; do names="$names $(find . -name "$test.java")"; done
else
    names=$(grep -rlE --include='*Test.java' 'Devices#(kernels|levels|attention)|EmulatedDevice\.open' . | sort)
fi
cd "$top/java/engine"
names=$(echo "$names" | sed 's#\./##g; s#\.java##g; s#/#.#g' | tr '\n' ' ')

# One JVM: BUILD ORDER.
cat >"$logs/one.sh" <<END
#!/bin/sh
log=$logs/tests-\$1-\$2.log
[ \$1 = asan ] && export LD_PRELOAD=$(${CXX:-c++} -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0,handle_segv=0
start=\$(date +%s)
if CUDA_ON_CPU_ORDER=\$2 "$java" -XX:TieredStopAtLevel=1 -Xmx2g --enable-native-access=ALL-UNNAMED -Dtest.devices=emulated \\
    -Dtest.emulation=$build/emulation/liblapidary_emulated_\$1.so -Dtest.cuda=$build/cuda-test \\
    -cp $PWD/target/test-classes:$PWD/target/classes:$(cat "$logs/classpath") lapidary.RunTests $names >\$log 2>&1
then echo "\$1 \$2: passed, \$((\$(date +%s) - start)) s"
else
    echo "\$1 \$2: FAILED, \$((\$(date +%s) - start)) s, \$log"
    grep -v ' 0 failed' \$log | head -n 40
    exit 1
fi
END
{
    if wants race; then echo race plain; fi
    if wants asan; then echo asan plain; fi
    if wants orders; then printf 'plain plain\nplain reversed\nplain 1\nplain 2\n'; fi
} | xargs -P "$(nproc)" -L 1 sh "$logs/one.sh"
