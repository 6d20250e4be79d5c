#!/usr/bin/env bash
# Counts the instructions of a call, both ends together, and holds them to benches/instructions.txt: more than 5 % above
# it fails. `benches/instructions.sh --write` writes the file anew.
#
# Each workload runs twice with different numbers of calls, on one thread; the difference is the price of the calls
# alone. Kernel work does not count, and the figures hold for one version of the compiler: another one skips the check.
# The program's `blob` is not among them: whether the allocator copies what grows depends on what it did before.
set -euo pipefail
cd "$(dirname "$0")/.."

baseline=benches/instructions.txt
mode=${1:-}
if ! command -v valgrind >/dev/null; then
    echo "skipped: valgrind is not installed, and counts the instructions"
    exit
fi
compiler=$(rustc --version | cut -d' ' -f2)-$(uname -m)
if [[ $mode != --write && $(head -n1 "$baseline") != "$compiler" ]]; then
    echo "skipped: the baseline is for $(head -n1 "$baseline"), and this is $compiler"
    exit
fi

cargo build --locked --release -p rmi-benches --bin instructions
binary=${CARGO_TARGET_DIR:-target}/release/instructions
# The allocator's arenas and the hashes' seeds differ from run to run by less than a hundredth.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

status=0
written=$compiler$'\n'
while read -r workload few many; do
    per_call=$((($(count "$workload" "$many") - $(count "$workload" "$few")) / (many - few)))
    written+="$workload $per_call"$'\n'
    if [[ $mode == --write ]]; then
        printf '%-10s %8d instructions per call\n' "$workload" "$per_call"
        continue
    fi
    allowed=$(sed -n "s/^$workload //p" "$baseline")
    printf '%-10s %8d instructions per call, the baseline is %d\n' "$workload" "$per_call" "$allowed"
    if ((per_call * 100 > allowed * 105)); then
        echo "more than 5 % above the baseline: make it cheaper, or write benches/instructions.txt anew and say why" >&2
        status=1
    fi
done <<'END'
one 1000 3000
pipelined 6400 19200
deadline 6400 19200
traced 6400 19200
record 1280 3840
END
if [[ $mode == --write ]]; then printf '%s' "$written" >"$baseline"; fi
exit $status
