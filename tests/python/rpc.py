#!/usr/bin/env python3
"""gRPC by grpcio, a server and a client, with bytes for messages.

usage: rpc.py serve              prints {"port": PORT}, and serves until its input ends
       rpc.py call PORT CA       calls the server through https://localhost:PORT, and prints what it saw
"""

import json
import sys
import threading
from concurrent import futures

import grpc

# Longest wait for anything, in seconds.
LONG = 20

LARGE = bytes(range(256)) * 8192


def upper(request, context):
    """One message, one answer; the trailers tell what came as metadata."""
    sent = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-told", sent.get("x-tell", "")),))
    if request == b"fail":
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked: 100 %")
    return request.upper()


def count(request, context):
    """Many answers."""
    for n in range(int(request)):
        yield b"%d" % n


def talk(requests, context):
    """Each message is answered before the next comes."""
    for request in requests:
        yield request[::-1]


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return {
            "/test.Test/Upper": grpc.unary_unary_rpc_method_handler(upper),
            "/test.Test/Count": grpc.unary_stream_rpc_method_handler(count),
            "/test.Test/Talk": grpc.stream_stream_rpc_method_handler(talk),
        }.get(details.method)


def serve():
    options = [("grpc.max_receive_message_length", len(LARGE) * 2)]
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Handler()], options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port}), flush=True)
    sys.stdin.read()
    server.stop(None)


def talked(channel):
    """A conversation: the next message is sent once the last answer is here."""
    answers, turn = [], threading.Semaphore()

    def messages():
        for message in [b"one", b"two", b"three"]:
            if not turn.acquire(timeout=LONG):
                return
            yield message

    for answer in channel.stream_stream("/test.Test/Talk")(messages(), timeout=LONG):
        answers.append(answer.decode())
        turn.release()
    return answers


def call(port, ca):
    with open(ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = [
        ("grpc.max_receive_message_length", len(LARGE) * 2),
        ("grpc.ssl_target_name_override", "localhost"),
        ("grpc.default_authority", "localhost"),
    ]
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        unary = channel.unary_unary("/test.Test/Upper")
        answer, made = unary.with_call(b"hello", metadata=[("x-tell", "it")], timeout=LONG)
        seen = {"unary": answer.decode(), "trailers": dict(made.trailing_metadata())}
        seen["large"] = unary(LARGE, timeout=LONG) == LARGE.upper()
        try:
            unary(b"fail", timeout=LONG)
        except grpc.RpcError as error:
            seen["failure"] = [error.code().name, error.details()]
        seen["streamed"] = sum(1 for _ in channel.unary_stream("/test.Test/Count")(b"500", timeout=LONG))
        seen["talked"] = talked(channel)
        try:
            channel.unary_unary("/test.Test/None")(b"", timeout=LONG)
        except grpc.RpcError as error:
            seen["unknown"] = error.code().name
        many = [unary.future(b"%d" % n, timeout=LONG) for n in range(200)]
        seen["many"] = sum(future.result() == b"%d" % n for n, future in enumerate(many))
    print(json.dumps(seen))


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    elif len(sys.argv) == 4 and sys.argv[1] == "call":
        call(sys.argv[2], sys.argv[3])
    else:
        raise SystemExit(__doc__)
