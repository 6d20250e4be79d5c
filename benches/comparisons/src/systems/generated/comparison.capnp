@0xd2b6a1f0c3e4a597;

struct Record {
  id @0 :UInt64;
  name @1 :Text;
  samples @2 :List(Float64);
  note @3 :Text;
  hasNote @4 :Bool;
  counts @5 :List(Count);

  struct Count {
    name @0 :Text;
    n @1 :UInt32;
  }
}

interface Back {
  add @0 (a :Int64, b :Int64) -> (sum :Int64);
}

interface Work {
  add @0 (a :Int64, b :Int64) -> (sum :Int64);
  echoRecord @1 (record :Record) -> (record :Record);
  echoBlob @2 (blob :Data) -> (blob :Data);
  nested @3 (back :Back, x :Int64) -> (sum :Int64);
  burnOffloaded @4 () -> ();
  burnInTask @5 () -> ();
}
