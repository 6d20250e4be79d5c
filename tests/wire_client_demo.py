"""Calls all methods of the node of `wire_client.rs` with the client in `wire_client.py`, and checks what comes back."""
import sys

from wire_client import CANCELLED, Blob, Client, InvocationError


def main(host, port):
    """Calls all methods of the node of `wire_client.rs`."""
    def check(what, got, expected):
        print(f"{what}: {got}", flush=True)
        if got != expected:
            sys.exit(f"{what}: {got!r}, and not {expected!r}")

    def error_of(id_):
        try:
            return sys.exit(f"no error, but {client.result(id_)!r}")
        except InvocationError as error:
            return error

    client = Client(host, int(port), methods={"Client.hello": lambda name: f"hello {name}, from Python"})
    check("name of the node", client.hello[4], "calc")
    check("Demo.add(1, 2)", client.call("Demo.add", 1, 2), 3)
    check("Demo.add(1, b=2)", client.call("Demo.add", 1, b=2), 3)
    check("add(1)", client.call("add", 1), 2)
    error = error_of(client.start("Demo.div", [1, 0]))
    print(f"Demo.div(1, 0): {error}")
    check("kind, class, node, method", (error.kind, error.cls, error.node, error.method), (1, 2, "calc", "Demo.div"))
    check("message, chain", (error.message, error.chain), ("cannot divide 1", ["the divisor is zero"]))
    check("payload", error.payload, {"DivisionByZero": {"dividend": 1, "source": []}})
    error = error_of(client.start("Demo.sub", [1]))
    check("Demo.sub(1)", (error.kind, error.cls, error.message), (33, 0, "service `Demo` has no method `sub`"))
    check("Demo.blob", client.call("Demo.blob", Blob(b"\xde\xad")).data, b"\xad\xde")
    text = "0123456789" * 300_000  # more than five windows
    check("a long text came back", client.call("Demo.text", text) == text, True)
    check("a large blob, too", client.call("Demo.blob", Blob(text.encode())).data == text.encode()[::-1], True)
    client.send(0x00, 7, b"padding")  # frames that the node skips
    client.send(0x7F, 7, b"of a later version")
    slow = client.start("Demo.slow", remaining_ms=60_000)
    check("Demo.started", client.call("Demo.started", 1), 1)
    client.cancel(slow)
    check("Demo.slow was cancelled", error_of(slow).kind, CANCELLED)
    check("Demo.dropped", client.call("Demo.dropped", 1), 1)
    check("Demo.call_back", client.call("Demo.call_back", "calc"), "hello calc, from Python")
    last = client.start("Demo.shut_down")
    check("Demo.shut_down", client.result(last), "done")
    check("GOAWAY", [(goaway[0], goaway.get(1)) for goaway in client.goaways], [(0, 2**64 - 1), (0, last)])
    check("pings answered", client.n_pings, 1)
    check("types of skipped frames", client.skipped, {0x01})
    client.close()
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
