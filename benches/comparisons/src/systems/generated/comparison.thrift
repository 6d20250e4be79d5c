namespace rs comparison

struct Record {
    1: required i64 id,
    2: required string name,
    3: required list<double> samples,
    4: optional string note,
    5: required map<string, i32> counts,
}

service Work {
    i64 add(1: i64 a, 2: i64 b),
    Record echo_record(1: Record record),
    binary echo_blob(1: binary blob),
    void burn_offloaded(),
    void burn_in_task(),
}
