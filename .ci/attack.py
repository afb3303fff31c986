"""Hostile clients for the example servers. `.ci/attack` and `.ci/flood` start them.

    python3 -m pip install h2
    python3 .ci/attack.py localhost:3000 streams '/blob?bytes=1048576' --window 0

Clients that hold their connections print a line that begins with `ready`, send nothing more, and
print at SIGTERM how many connections are still open. Every client ends after a minute at the
latest.
"""

import argparse
import collections
import functools
import select
import selectors
import signal
import socket
import struct
import time

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

LONGEST = 60
# Between requests for large answers. Without it, the runtime is behind, and the server sheds load
# for that reason.
PAUSE = 0.05
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HELLO = "/greeter.Greeter/Hello"
GRPC = [("content-type", "application/grpc"), ("te", "trailers")]
CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS"
    " PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE"
    " UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
).split()
# HelloRequest: name = 1.
MESSAGE = b"\x0a\x03you"

# A colour and a change of the direction of text: a control character of two bytes, as UTF-8 has
# it, and U+202E.
ESCAPES = b"\xc2\x9b31m\xe2\x80\xae"


def connect(address, buffer=None):
    host, port = address.rsplit(":", 1)
    client = socket.socket()
    if buffer:
        # Before it is connected, or it has no effect on the window.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(10)
    client.connect((host, int(port)))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def is_open(client):
    """Whether the server has not closed the connection. What can be read is skipped."""
    client.setblocking(False)
    try:
        for _ in range(10_000):
            if not client.recv(65536):
                return False
    except BlockingIOError:
        return True
    except OSError:
        return False
    return True


def hold(what, clients):
    """Keeps the connections until SIGTERM, and neither reads nor writes meanwhile."""
    print(f"ready: {what}", flush=True)
    signal.sigtimedwait({signal.SIGTERM}, LONGEST)
    still = sum(map(is_open, clients))
    print(f"open: {still} of {len(clients)} connections", flush=True)


def status(received):
    """That of an HTTP/1 answer."""
    words = received.split(b" ", 2)
    return words[1].decode() if len(words) > 1 else "no head"


def counted(values):
    """`2 x a, 1 x b`, sorted."""
    counts = collections.Counter(map(str, values))
    return ", ".join(f"{times} x {value}" for value, times in sorted(counts.items())) or "none"


class Answer:
    """What was received on one stream."""

    def __init__(self):
        self.headers = {}
        self.bytes = 0
        self.is_over = False
        self.is_reset = False

    def status(self):
        return self.headers.get(":status", "no head")

    def grpc_status(self):
        code = self.headers.get("grpc-status")
        if code:
            return CODES[int(code)]
        return f"HTTP {self.status()}, no gRPC status" if self.headers else "no answer"


class Http2:
    """A connection that reads only while `read` runs, and never opens a window."""

    def __init__(self, address, window=65535):
        self.answers = {}
        self.is_closed = False
        self.socket = connect(address)
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        settings = {SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: window}
        self.h2.local_settings = Settings(client=True, initial_values=settings)
        self.h2.initiate_connection()

    def request(self, path, method="GET", headers=(), body=None, end=True):
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path)]
        self.h2.send_headers(stream, [*head, *headers], end_stream=end and body is None)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=end)
        self.answers[stream] = Answer()
        return stream

    def flush(self):
        self.socket.settimeout(10)
        try:
            self.socket.sendall(self.h2.data_to_send())
        except OSError:
            self.is_closed = True

    def receive(self):
        try:
            received = self.socket.recv(65536)
            events = self.h2.receive_data(received) if received else []
        except (OSError, ProtocolError):
            received, events = b"", []
        self.is_closed = not received
        for event in events:
            answer = self.answers.get(getattr(event, "stream_id", None))
            if answer is None:
                continue
            if isinstance(event, (ResponseReceived, TrailersReceived)):
                answer.headers.update(event.headers)
            elif isinstance(event, DataReceived):
                answer.bytes += len(event.data)
            elif isinstance(event, (StreamEnded, StreamReset)):
                answer.is_over = True
                answer.is_reset |= isinstance(event, StreamReset)
        self.flush()


def read(connections, until, seconds):
    """Reads from all connections until every answer satisfies `until`, or for so many seconds."""
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            connection.flush()
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        while selector.get_map() and time.monotonic() < end:
            if all(until(answer) for each in connections for answer in each.answers.values()):
                return
            for key, _ in selector.select(0.05):
                key.data.receive()
                if key.data.is_closed:
                    selector.unregister(key.fileobj)


def answers(connections):
    return [answer for each in connections for answer in each.answers.values()]


# The attacks


def streams(args):
    """HTTP/2 streams whose window stays as small as it is."""
    connections = [Http2(args.address, args.window) for _ in range(args.connections)]
    for connection in connections:
        for number in range(args.streams):
            connection.request(args.path)
            if number % 50 == 49:
                connection.flush()
                time.sleep(PAUSE)
    read(connections, lambda answer: answer.headers, 5)
    statuses = counted(answer.status() for answer in answers(connections))
    hold(statuses, [connection.socket for connection in connections])


def readers(args):
    """HTTP/1 connections with pipelined requests, which read nothing."""
    request = f"GET {args.path} HTTP/1.1\r\nhost: a\r\n\r\n".encode()
    clients = []
    for _ in range(args.connections):
        client = connect(args.address, 4096)
        client.sendall(request * args.requests)
        clients.append(client)
        time.sleep(PAUSE)
    hold(f"{len(clients)} connections, {args.requests} requests each", clients)


def slow(args):
    """An HTTP/1 client that reads all of an answer, at a steady rate."""
    client = connect(args.address, 4096)
    client.sendall(f"GET {args.path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
    began = time.monotonic()
    received = bytearray()
    while True:
        allowed = int((time.monotonic() - began) * args.rate) - len(received)
        if allowed < 1:
            time.sleep(0.02)
            continue
        data = client.recv(min(allowed, 65536))
        if not data:
            break
        received += data
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    print(f"{status(head)}, {len(body)} bytes in {time.monotonic() - began:.0f} s")


def framed(message, flag=0, length=None):
    return struct.pack(">BI", flag, len(message) if length is None else length) + message


# What a gRPC call has for its message.
MALFORMED = {
    "none": None,
    "prefix": b"\0\0\0",
    "protobuf": framed(b"\xff" * 20),
    "compressed": framed(MESSAGE, flag=1),
    "flag": framed(MESSAGE, flag=7),
    "longer": framed(MESSAGE, length=1000),
}
# These calls are not at their end.
UNFINISHED = ["open", "trickle", "abort"]


def grpc(args):
    """Calls whose message is malformed, late, or not all there."""
    connection = Http2(args.address)
    call = functools.partial(connection.request, HELLO, "POST", GRPC)
    for _ in range(args.calls):
        if args.kind in MALFORMED:
            call(body=MALFORMED[args.kind])
        else:
            call(body=None if args.kind == "open" else framed(MESSAGE, length=1000), end=False)
    if args.kind == "trickle":
        for _ in range(4 * LONGEST):
            read([connection], lambda answer: answer.is_over, 0.25)
            left = [stream for stream, answer in connection.answers.items() if not answer.is_over]
            if not left or connection.is_closed:
                break
            for stream in left:
                connection.h2.send_data(stream, b"x")
    elif args.kind == "abort":
        read([connection], lambda _: False, 0.3)
        for stream in connection.answers:
            connection.h2.reset_stream(stream, ErrorCodes.CANCEL)
        read([connection], lambda _: False, 0.3)
    else:
        read([connection], lambda answer: answer.is_over, 10)
    statuses = counted(answer.grpc_status() for answer in answers([connection]))
    print(statuses + (", closed" if connection.is_closed else ""))


def escapes(args):
    """Paths with control characters, as they are and percent-encoded. `@` is where they go."""
    statuses = []
    for raw in (ESCAPES, b"\x1b[31m"):
        for bytes_ in (raw, b"".join(b"%%%02X" % byte for byte in raw)):
            path = args.path.encode().replace(b"@", bytes_)
            client = connect(args.address)
            client.sendall(b"GET %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % path)
            statuses.append(status(client.recv(65536)))
            connection = Http2(args.address)
            connection.request(path)
            read([connection], lambda answer: answer.is_over, 10)
            statuses.append(answers([connection])[0].status())
    print(counted(statuses))


def uploads(args):
    """Clients that go on sending while they are answered, as far as their window allows."""
    results = []
    for _ in range(args.tries):
        connection = Http2(args.address)
        stream = connection.request(args.path, "POST", [("content-length", "100000")], end=False)
        answer, left = connection.answers[stream], 100_000
        # The stream is at its end when both sides have ended it.
        while not (connection.is_closed or answer.is_reset or (answer.is_over and not left)):
            window = connection.h2.local_flow_control_window(stream)
            size = min(left, window, connection.h2.max_outbound_frame_size)
            if size:
                left -= size
                connection.h2.send_data(stream, bytes(size), end_stream=not left)
                connection.flush()
            if not size or select.select([connection.socket], [], [], 0)[0]:
                connection.receive()
        end = ", reset" if answer.is_reset else ", closed" if connection.is_closed else ""
        results.append(f"{answer.status()}, {answer.bytes} bytes" + end)
    print(counted(results))


def idle(args):
    """Connections that keep a server from stopping, unless it bounds the time for that."""
    silent = connect(args.address)
    half = connect(args.address)
    half.sendall(b"GET / HT")
    preface = connect(args.address)
    preface.sendall(PREFACE)
    clients = [silent, half, preface]
    body, method, headers = None, "GET", ()
    if args.path == HELLO:
        body, method, headers = framed(MESSAGE), "POST", GRPC
    stalled, answered = Http2(args.address, 0), Http2(args.address)
    for connection in (stalled, answered):
        connection.request(args.path, method, headers, body)
        clients.append(connection.socket)
    read([stalled], lambda answer: answer.headers, 5)
    read([answered], lambda answer: answer.is_over or answer.bytes == 65535, 5)
    statuses = [answer.status() for answer in answers([stalled, answered])]
    if args.http1:
        keep_alive = connect(args.address)
        keep_alive.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        statuses.append(status(keep_alive.recv(65536)))
        clients.append(keep_alive)
    hold(counted(statuses), clients)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    attacks = parser.add_subparsers(required=True)

    def attack(run):
        one = attacks.add_parser(run.__name__, help=run.__doc__)
        one.set_defaults(run=run)
        return one

    one = attack(streams)
    one.add_argument("path")
    one.add_argument("--window", type=int, default=0)
    one.add_argument("--connections", type=int, default=5)
    one.add_argument("--streams", type=int, default=200, help="on each connection")
    one = attack(readers)
    one.add_argument("path")
    one.add_argument("--connections", type=int, default=16)
    one.add_argument("--requests", type=int, default=5, help="on each connection")
    one = attack(slow)
    one.add_argument("path")
    one.add_argument("--rate", type=int, default=60_000, help="bytes a second")
    one = attack(grpc)
    one.add_argument("kind", choices=[*MALFORMED, *UNFINISHED])
    one.add_argument("--calls", type=int, default=40)
    one = attack(escapes)
    one.add_argument("path")
    one = attack(uploads)
    one.add_argument("path")
    one.add_argument("--tries", type=int, default=20)
    one = attack(idle)
    one.add_argument("path")
    one.add_argument("--http1", action="store_true")
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.alarm(LONGEST + 10)
    args.run(args)


main()
