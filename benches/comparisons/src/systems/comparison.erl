%% Both ends of Erlang's part. The client measures as `workload.rs` does, and prints the same figures.
-module(comparison).
-export([server/0, client/0, add/2, echo/1, nested/2]).

server() ->
    io:format("ready ~s~n", [atom_to_list(node())]),
    receive after infinity -> ok end.

add(A, B) -> A + B.

echo(X) -> X.

nested(Caller, X) -> erpc:call(Caller, ?MODULE, add, [X, 1]).

%% Arguments after `-extra`: the workload, the server, its process, the window in milliseconds.
client() ->
    [Workload, ServerName, ServerPid, Millis] = init:get_plain_arguments(),
    Server = list_to_atom(ServerName),
    3 = erpc:call(Server, ?MODULE, add, [1, 2]),
    measure(Workload, Server, ServerPid, list_to_integer(Millis)),
    halt(0).

%% {Prefix, Call, Lanes, IsTimed, Bytes of a blob}
groups("A") -> [{"", add, 1, true, 0}];
groups("B64") -> [{"", add, 64, false, 0}];
groups("B1024") -> [{"", add, 1024, false, 0}];
groups("C") -> [{"", record, 64, false, 0}];
groups("D1") -> [{"", blob, 1, false, 1 bsl 20}];
groups("D64") -> [{"", blob, 1, false, 64 bsl 20}];
groups("F") -> [{"small_", add, 1, true, 0}, {"bulk_", blob, 1, false, 16 bsl 20}];
groups("H") -> [{"", nested, 64, false, 0}].

measure(Workload, Server, ServerPid, Millis) ->
    Phase = atomics:new(1, []),
    Running = [start(Group, Server, Phase) || Group <- groups(Workload)],
    timer:sleep(Millis div 3),
    wait_for_calls(Running),
    {Begin0, Counts0, Cpu0} = now_at(Running, ServerPid),
    atomics:put(Phase, 1, 1),
    %% A handful of large blobs in the window: measured from the end of one to the end of another.
    IsSlow = Workload =:= "D64",
    {Begin, Counts, Cpu} =
        case IsSlow of
            true -> next_call(Running, Counts0), now_at(Running, ServerPid);
            false -> {Begin0, Counts0, Cpu0}
        end,
    timer:sleep(Millis),
    IsSlow andalso next_call(Running, counts(Running)),
    {End, EndCounts, EndCpu} = now_at(Running, ServerPid),
    atomics:put(Phase, 1, 2),
    Seconds = (End - Begin) / 1.0e9,
    Calls = [After - Before || {Before, After} <- lists:zip(Counts, EndCounts)],
    [report(Group, N, Seconds, Lanes) || {N, {Group, _, Lanes}} <- lists:zip(Calls, Running)],
    case Running of
        [_] -> print("cpu_us_per_call", (EndCpu - Cpu) * 1.0e6 / max(1, lists:sum(Calls)));
        _ -> ok
    end,
    case Running of
        [{{_, blob, _, _, _}, _, _} | _] -> print("server_peak_mib", peak_kib(ServerPid) / 1024);
        _ -> ok
    end.

start({_, Call, N, IsTimed, Size} = Group, Server, Phase) ->
    Counter = counters:new(1, [write_concurrency]),
    Argument = argument(Call, Size),
    Lane = fun() -> exit({lane, lane(Server, Call, Argument, IsTimed, Phase, Counter, 0, [])}) end,
    {Group, Counter, [spawn_monitor(Lane) || _ <- lists:seq(1, N)]}.

argument(record, _) ->
    #{id => 16#0123456789abcdef,
      name => <<"0123456789abcdef0123456789abcdef">>,
      samples => [N * 0.37 || N <- lists:seq(0, 31)],
      note => <<"a remark">>,
      counts => #{<<"red">> => 3, <<"green">> => 500, <<"blue">> => 70000}};
argument(blob, Size) ->
    Part = << <<((N rem 251) bxor 16#a5)>> || N <- lists:seq(1, 1 bsl 20) >>,
    binary:copy(Part, Size bsr 20);
argument(_, _) -> none.

lane(Server, Call, Argument, IsTimed, Phase, Counter, X, Times) ->
    case atomics:get(Phase, 1) of
        2 -> Times;
        Now ->
            Begin = case IsTimed of true -> erlang:monotonic_time(nanosecond); false -> 0 end,
            Next = call(Server, Call, Argument, X),
            counters:add(Counter, 1, 1),
            NewTimes =
                case IsTimed andalso Now =:= 1 of
                    true -> [erlang:monotonic_time(nanosecond) - Begin | Times];
                    false -> Times
                end,
            lane(Server, Call, Next, IsTimed, Phase, Counter, X + 1, NewTimes)
    end.

call(Server, add, Argument, X) ->
    Sum = X + 1,
    Sum = erpc:call(Server, ?MODULE, add, [X, 1]),
    Argument;
call(Server, nested, Argument, X) ->
    Sum = X + 1,
    Sum = erpc:call(Server, ?MODULE, nested, [node(), X]),
    Argument;
call(Server, record, Argument, _) ->
    #{id := 16#0123456789abcdef} = erpc:call(Server, ?MODULE, echo, [Argument]),
    Argument;
call(Server, blob, Argument, _) ->
    Size = byte_size(Argument),
    Back = erpc:call(Server, ?MODULE, echo, [Argument]),
    Size = byte_size(Back),
    Back.

counts(Running) -> [counters:get(Counter, 1) || {_, Counter, _} <- Running].

wait_for_calls(Running) ->
    case lists:member(0, counts(Running)) of
        true -> timer:sleep(5), wait_for_calls(Running);
        false -> ok
    end.

next_call(Running, Counts) ->
    case counts(Running) of
        Counts -> timer:sleep(1), next_call(Running, Counts);
        _ -> ok
    end.

now_at(Running, ServerPid) ->
    {erlang:monotonic_time(nanosecond), counts(Running), cpu_seconds(ServerPid) + cpu_seconds(os:getpid())}.

report({Prefix, Call, _, IsTimed, Size}, N, Seconds, Lanes) ->
    Times = lists:sort(lists:append([await(Lane) || Lane <- Lanes])),
    case IsTimed of
        true ->
            print(Prefix ++ "p50_us", percentile(Times, 0.5)),
            print(Prefix ++ "p99_us", percentile(Times, 0.99));
        false -> ok
    end,
    case Call of
        blob -> print(Prefix ++ "mib_per_s", N / Seconds * 2 * Size / (1 bsl 20));
        _ -> print(Prefix ++ "calls_per_s", N / Seconds)
    end.

await({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {lane, Times}} -> Times
    end.

percentile(Sorted, P) ->
    N = length(Sorted),
    lists:nth(min(N, trunc(N * P) + 1), Sorted) / 1000.

print(Name, Value) -> io:format("~s ~w~n", [Name, float(Value)]).

cpu_seconds(Pid) ->
    {ok, Stat} = file:read_file("/proc/" ++ Pid ++ "/stat"),
    [_, Rest] = string:split(Stat, ")", trailing),
    Fields = string:lexemes(Rest, " "),
    (binary_to_integer(lists:nth(12, Fields)) + binary_to_integer(lists:nth(13, Fields))) / 100.

peak_kib(Pid) ->
    {ok, Status} = file:read_file("/proc/" ++ Pid ++ "/status"),
    [_, Rest] = string:split(Status, "VmHWM:"),
    [Kib | _] = string:lexemes(Rest, " \t\n"),
    binary_to_integer(Kib).
