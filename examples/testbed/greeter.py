"""A gRPC client for the tonic server: Python's grpcio, with the messages encoded in this file.

    python3 -m pip install grpcio
    python3 examples/testbed/greeter.py localhost:3000 hello --delay-ms 100
"""

import argparse
import collections
import concurrent.futures
import json
import time

import grpc


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def request(args, name):
    """HelloRequest: name = 1, delay_ms = 2, count = 3, panic = 4, work_ms = 5."""
    name = name.encode()
    return (
        b"\x0a" + varint(len(name)) + name
        + b"\x10" + varint(args.delay_ms)
        + b"\x18" + varint(args.count)
        + b"\x20" + varint(int(args.panic))
        + b"\x28" + varint(args.work_ms)
    )


def text(reply):
    """HelloReply: message = 1, shorter than 128 bytes."""
    return reply[2:].decode()


def same(message):
    return message


def requests(args, name):
    """The requests of a stream, with a pause before each."""
    for _ in range(args.count):
        time.sleep(args.pause_ms / 1000)
        yield request(args, name)


def call(channel, args):
    """Returns the number of messages, the status, and its message."""
    path = "/greeter.Greeter/" + args.method.capitalize() + "x" * args.path_bytes
    metadata = [("x", "x" * args.metadata_bytes)]
    name = "x" * args.bytes if args.bytes else "you"
    timeout = args.timeout_ms / 1000 if args.timeout_ms else 60
    messages, reply_text = 0, ""
    options = {"timeout": timeout, "metadata": metadata}
    try:
        if args.method == "hello":
            if args.pause_ms:
                # The server sees a unary call whose message comes late.
                reply = channel.stream_unary(path, same, same)(requests(args, name), **options)
            else:
                reply = channel.unary_unary(path, same, same)(request(args, name), **options)
            messages, reply_text = 1, text(reply) if args.calls == 1 else ""
        elif args.method == "health":
            check = channel.unary_unary("/grpc.health.v1.Health/Check", same, same)
            reply = check(b"\x0a\x0fgreeter.Greeter", **options)
            messages, reply_text = 1, {1: "SERVING", 2: "NOT_SERVING"}.get(reply[1], "UNKNOWN")
        elif args.method == "stream":
            replies = channel.unary_stream(path, same, same)(request(args, name), **options)
            for _ in replies:
                messages += 1
                if messages == args.cancel_after:
                    replies.cancel()
        else:
            for _ in channel.stream_stream(path, same, same)(requests(args, name), **options):
                messages += 1
    except grpc.RpcError as error:
        pushback = dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms")
        return messages, error.code().name, error.details(), pushback is not None
    return messages, "OK", reply_text, False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("method", choices=["hello", "stream", "chat", "health"])
    parser.add_argument("--delay-ms", type=int, default=0)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--panic", action="store_true")
    parser.add_argument("--work-ms", type=int, default=0)
    parser.add_argument("--pause-ms", type=int, default=0, help="before each message")
    parser.add_argument("--metadata-bytes", type=int, default=0)
    parser.add_argument("--path-bytes", type=int, default=0, help="added to the path")
    parser.add_argument("--bytes", type=int, default=0, help="size of the request")
    parser.add_argument("--calls", type=int, default=1, help="calls at once")
    parser.add_argument("--timeout-ms", type=int, default=0, help="the caller's own deadline")
    parser.add_argument("--cancel-after", type=int, default=0, help="messages")
    parser.add_argument(
        "--retries", type=int, default=0, help="of RESOURCE_EXHAUSTED, by grpcio's own policy"
    )
    args = parser.parse_args()
    policy = {
        "maxAttempts": args.retries + 1,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
    }
    method = {"name": [{"service": "greeter.Greeter"}]}
    if args.retries:
        method["retryPolicy"] = policy
    config = json.dumps({"methodConfig": [method]})
    with grpc.insecure_channel(args.address, options=[("grpc.service_config", config)]) as channel:
        with concurrent.futures.ThreadPoolExecutor(args.calls) as pool:
            ended = collections.Counter(pool.map(lambda _: call(channel, args), range(args.calls)))
    for (messages, code, details, pushback), times in sorted(ended.items()):
        print(f"{times} x {code}, {messages} messages{', pushback' if pushback else ''}: {details}")


main()
