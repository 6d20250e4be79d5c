#!/usr/bin/env bash
# Shows that the tests see the mistakes in rmi-net/src/mutant.rs: each test passes, and fails or hangs where its mistake
# is made. Names of mistakes as arguments try those only.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/mutants} RUSTFLAGS='--cfg mutants' RUST_BACKTRACE=0 CARGO_PROFILE_DEV_DEBUG=0
longest=60

# Number, mistake, test file, test.
mutants='
1  ReaderAwaitsAFullQueue    pressure             both_ends_flood_each_other_through_queues_that_are_always_full
2  UnboundedQueue            limits               bytes_that_wait_to_be_sent
3  PendingCallLeaked         cancel_and_deadline  nothing_is_left_of_ten_thousand_calls_that_were_dropped_anywhere
4  PermitReleasedOnCancel    cancel_and_deadline  a_plain_method_that_was_cancelled_has_its_place_until_it_ends
5  NestedCallsWait           pressure             nested_calls_beyond_the_limit_are_refused_and_never_wait_for_each_other
6  HalfReadFrameLost         cuts                 frames_in_the_smallest_pieces_are_the_same_frames
7  LockedWhileDialling       discovery            a_seed_that_says_nothing_holds_up_no_other
8  AnswerLostAtShutdown      drain                every_call_that_was_accepted_is_answered
9  EachEndKeepsItsOwn        discovery            of_two_connections_the_one_stays_that_the_greater_instance_has_dialled
10 GiantMessageInOneGo       fairness             small_frames_wait_for_the_parts_of_one_write_and_no_more
11 PanicNotCaught            contract             panicked
12 SentCallSaidNotExecuted   cuts                 a_small_call_that_is_cut_at_any_byte_tells_the_truth
13 HalfWrittenFrameLost      fairness             a_slow_link_that_is_full_both_ways_is_not_dead_and_small_calls_pass
14 LateAnswerTakenForAnother contract             a_late_answer_is_for_its_own_call_and_no_other
'

files=$(awk 'NF { print "--test " $3 }' <<<"$mutants" | sort -u)
# shellcheck disable=SC2086 # One word for each option and name.
built=$(
    cargo test --locked --no-run --message-format=json $files \
        | python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["kind"] == ["test"]:
        print(message["target"]["name"], message["executable"])'
)
declare -A binaries
while read -r name path; do binaries[$name]=$path; done <<<"$built"

# run NUMBER FILE TEST: whether the test passes, in time, where that mistake is made.
run() {
    local status=0 output
    output=$(RMI_MUTANT=$1 timeout --kill-after=5 "$longest" "${binaries[$2]}" "$3" 2>&1) || status=$?
    if ! grep -q '^running [1-9]' <<<"$output"; then
        echo "there is no test $3 in tests/$2" >&2
        exit 2
    fi
    return "$status"
}

n_left=0
printf '%-25s %-8s %5s %7s  %s\n' mistake is after without by
while read -r number mistake file test; do
    if [[ -z $number || ($# -gt 0 && " $* " != *" $mistake "*) ]]; then continue; fi
    begin=$SECONDS
    if ! run 0 "$file" "$test"; then
        echo "$file::$test fails without a mistake" >&2
        exit 1
    fi
    clean=$((SECONDS - begin)) begin=$SECONDS verdict=killed
    if run "$number" "$file" "$test"; then verdict=ALIVE n_left=$((n_left + 1)); fi
    printf '%-25s %-8s %3d s %5d s  %s\n' "$mistake" "$verdict" $((SECONDS - begin)) "$clean" "$file::$test"
done <<<"$mutants"
exit "$((n_left > 0))"
