"""A client of an RMI node, written after docs/wire.md. `wire_client_demo.py` shows it at work."""
import secrets
import socket
import struct

import msgpack  # pip install msgpack

PREAMBLE, HEADER, U32, U64 = b"\xc1RMI/1\r\n", struct.Struct("<IBBQ"), struct.Struct("<I"), struct.Struct("<Q")
HELLO, REQUEST, RESPONSE, PART, WINDOW, CANCEL, GOAWAY, PING, PONG = range(0x80, 0x89)
MORE, OF_RESPONSE, EXCEPTION, ATTACHMENTS = 1, 2, 4, 8  # flags
MAX_FRAME, OPENING, MIN_PART, BLOB, ONE_WAY = 65_536, 4_096, 4_096, 0x42, 1
RAISED, TOO_LARGE, NO_SUCH_METHOD, GOING_AWAY, CANCELLED, CONNECTION_LOST = 1, 19, 33, 37, 49, 50  # kinds
FIELDS = ("kind", "cls", "type", "message", "chain", "payload", "node", "method", "retry_after", "via")


class Blob:
    """Bytes that travel beside the body of a message."""
    def __init__(self, data):
        self.data = data


class InvocationError(Exception):
    """An exception that came, or this side's own. `payload` is the error that the method raised."""
    def __init__(self, body):
        for key, field in enumerate(FIELDS):
            setattr(self, field, body.get(key))

    def __str__(self):
        return " ".join(f"{field}={getattr(self, field)!r}" for field in FIELDS)


def encode(body):
    """A body as a message and its flags."""
    blobs = []
    def extension(blob):
        blobs.append(blob.data)
        return msgpack.ExtType(BLOB, U32.pack(len(blobs) - 1))
    packed = msgpack.packb(body, default=extension)
    return (msgpack.packb([len(b) for b in blobs]) + packed + b"".join(blobs), ATTACHMENTS) if blobs else (packed, 0)


def decode(message, flags=0):
    """The body of a message: a value, or an `InvocationError`."""
    blobs = []
    def extension(code, data):
        return blobs[U32.unpack(data)[0]] if code == BLOB else msgpack.ExtType(code, data)
    def unpack(data):
        return msgpack.unpackb(data, strict_map_key=False, ext_hook=extension)
    if flags & ATTACHMENTS:
        lengths = msgpack.Unpacker(max_buffer_size=0)
        lengths.feed(message)
        for length in reversed(lengths.unpack()):
            blobs.insert(0, Blob(message[len(message) - length:]))
            message = message[:len(message) - length]
        message = message[lengths.tell():]
    body = unpack(message)
    if flags & EXCEPTION and 5 in body:
        body[5] = unpack(body[5])
    return InvocationError(body) if flags & EXCEPTION else body


class Client:
    """A connection to a node, which may call `methods`. It reads, and so answers pings, only while it waits."""
    def __init__(self, host, port, cluster="default", name="python", methods=()):
        self.methods, self.is_open, self.goaways, self.n_pings, self.skipped = dict(methods), True, [], 0, set()
        self._last_id, self._pending, self._partial, self._answers = 0, set(), {}, {}
        self._socket = socket.create_connection((host, port), timeout=5)
        self._stream = self._socket.makefile("rb")
        self._socket.sendall(PREAMBLE)
        self.send(HELLO, 0, msgpack.packb({
            0: [1, 1], 3: cluster, 4: name, 5: secrets.randbelow(2**64 - 1) + 1, 6: 1,
            13: sorted({method.rpartition(".")[0] for method in self.methods})}))
        if self._stream.read(len(PREAMBLE)) != PREAMBLE:
            raise ConnectionError("this is no node")
        type_, _, _, payload = self._read_frame()
        self.hello = decode(payload)
        if type_ != HELLO:
            raise ConnectionError(f"refused: {self.hello}")
        limits = {0: 8_388_608, 1: 1_024, 2: 524_288} | self.hello.get(9, {})
        self._max_message, self._max_in_flight, self._credit = limits[0], limits[1], limits[2]
        self._socket.settimeout(20)  # the node sends a PING after 10 s of silence

    def call(self, method, /, *args, **kwargs):
        """Calls and waits for the answer."""
        return self.result(self.start(method, args, kwargs))

    def start(self, method, args=(), kwargs=None, remaining_ms=None):
        """Sends a request; its id is for `result` and `cancel`."""
        message, flags = encode([method, list(args), kwargs or {}, remaining_ms])
        while len(self._pending) >= self._max_in_flight > 0:
            self.receive()
        if self.goaways or not self.is_open:
            raise InvocationError({0: GOING_AWAY, 1: 0, 3: "the node takes no more requests", 7: method})
        if len(message) > self._max_message:
            raise InvocationError({0: TOO_LARGE, 1: 0, 3: "the request is too large", 7: method})
        self._last_id += 1
        self._pending.add(self._last_id)
        self._send_message(REQUEST, self._last_id, message, flags)
        return self._last_id

    def result(self, id_):
        """Waits for the answer; once."""
        while id_ in self._pending:
            self.receive()
        answer = self._answers.pop(id_)
        if isinstance(answer, InvocationError):
            raise answer
        return answer

    def cancel(self, id_):
        """Gives an answer up."""
        self._settle(id_, InvocationError({0: CANCELLED, 1: 1, 3: "cancelled"}))
        self.send(CANCEL, id_)

    def close(self):
        """Shuts the sending side down and reads until the node closes."""
        self._socket.shutdown(socket.SHUT_WR)
        while self.is_open:
            self.receive()

    def receive(self):
        """Waits for one frame and does what it asks for."""
        try:
            self._handle(*self._read_frame())
        except (OSError, struct.error):  # a short read is the end of the stream
            self.is_open = False
            self._fail_above(0, {0: CONNECTION_LOST, 1: 1, 3: "the connection ended"})

    def send(self, type_, id_=0, payload=b"", flags=0):
        """Sends one frame."""
        self._socket.sendall(HEADER.pack(10 + len(payload), type_, flags, id_) + payload)

    def _send_message(self, type_, id_, message, flags):
        if len(message) <= MAX_FRAME:
            return self.send(type_, id_, message, flags)
        self.send(type_, id_, U64.pack(len(message)) + message[:OPENING], flags | MORE)
        rest, side = message[OPENING:], OF_RESPONSE if type_ == RESPONSE else 0
        while rest and self.is_open and (side or id_ in self._pending):
            if self._credit < min(len(rest), MIN_PART):
                self.receive()
                continue
            part, rest = rest[:min(MAX_FRAME, self._credit)], rest[min(MAX_FRAME, self._credit):]
            self._credit -= len(part)
            self.send(PART, id_, part, side | (MORE if rest else 0))

    def _read_frame(self):
        length, type_, flags, id_ = HEADER.unpack(self._stream.read(HEADER.size))
        if not 10 <= length <= 10 + MAX_FRAME:
            raise ConnectionError(f"a frame of {length} bytes")
        return type_, flags, id_, self._stream.read(length - 10)

    def _handle(self, type_, flags, id_, payload):
        if type_ in (REQUEST, RESPONSE) and flags & MORE:
            if type_ == REQUEST or id_ in self._pending:  # the parts of other responses are dropped
                self._partial[type_, id_] = flags & ~MORE, bytearray(payload[8:])
        elif type_ == PART:
            self.send(WINDOW, 0, U64.pack(len(payload)))
            key = RESPONSE if flags & OF_RESPONSE else REQUEST, id_
            if opened := self._partial.get(key):
                opened[1].extend(payload)
                if not flags & MORE:
                    del self._partial[key]
                    self._handle(key[0], opened[0], id_, bytes(opened[1]))
        elif type_ == REQUEST:
            self._serve(id_, payload, flags)
        elif type_ == RESPONSE and id_ in self._pending:
            self._settle(id_, decode(payload, flags))
        elif type_ == WINDOW:
            self._credit += U64.unpack(payload)[0]
        elif type_ == CANCEL:
            self._partial.pop((REQUEST, id_), None)
        elif type_ == GOAWAY:
            self.goaways.append(decode(payload))
            self._fail_above(self.goaways[-1].get(1, 2**64 - 1), {0: GOING_AWAY, 1: 0, 3: "the node goes away"})
        elif type_ == PING:
            self.n_pings += 1
            self.send(PONG, id_)
        elif type_ < 0x80:
            self.skipped.add(type_)

    def _settle(self, id_, answer):
        self._pending.discard(id_)
        self._partial.pop((RESPONSE, id_), None)
        self._answers[id_] = answer

    def _fail_above(self, last, body):
        for id_ in [id_ for id_ in self._pending if id_ > last]:
            self._settle(id_, InvocationError(body))

    def _serve(self, id_, message, flags):
        method, args, kwargs, _, how, *_ = decode(message, flags) + [None] * 5
        try:
            answer, flags = self.methods[method](*args or [], **kwargs or {}), 0
        except Exception as error:
            kind = RAISED if method in self.methods else NO_SUCH_METHOD
            answer, flags = {0: kind, 2: type(error).__name__, 3: str(error), 7: method}, EXCEPTION
        if not (how or 0) & ONE_WAY:
            message, attachments = encode(answer)
            self._send_message(RESPONSE, id_, message, flags | attachments)
