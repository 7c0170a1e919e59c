#!/usr/bin/env python3
"""An HTTP/3 client, aioquic, that the gateway's tests drive; not ours below this file.

usage: h3.py PORT CA CASE [ARGUMENT]

Connects to 127.0.0.1:PORT for hub.test (aioquic takes no `*.localhost`), trusting CA, and prints what it saw as one line of JSON. The cases:

* get PATH          one GET
* head PATH         one HEAD
* post BYTES        a POST of that many bytes in small pieces, and trailers
* many COUNT        that many GETs over one connection, all at once
* events PATH       a GET whose answer has two events: prints each as it comes, waits for a line between
* broken            requests and frames that are wrong, each over a connection of its own, while
                    another connection is used all the time
* empty-data        a POST whose body is cut by empty DATA and unknown frames
* many-frames MB    a POST of so many megabytes in DATA frames of one byte
* large-frame MB    HEADERS of so many megabytes
* cancel COUNT      requests that are given up as soon as they are sent
* unread            a GET /large that is never read, while other requests go on; until the server ends the connection
* goodbye           a GET, then waits until the server says goodbye and ends the connection
"""

import asyncio
import json
import ssl
import sys
import time

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset

NAME = "hub.test"

# Longest wait for anything, in seconds.
LONG = 20

DATA, HEADERS = 0x0, 0x1


class Client(QuicConnectionProtocol):
    """One connection."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.answers = {}
        self.goaway = None
        self.ended = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            if not self.ended.done():
                self.ended.set_result(event.error_code)
            for answer in self.answers.values():
                answer.fail(f"connection {event.error_code:#x}")
        if isinstance(event, StreamReset) and event.stream_id in self.answers:
            self.answers[event.stream_id].fail(f"reset {event.error_code:#x}")
        for h3_event in self.http.handle_event(event):
            answer = self.answers.get(h3_event.stream_id)
            if answer is None:
                continue
            if isinstance(h3_event, HeadersReceived):
                answer.fields(h3_event.headers)
            elif isinstance(h3_event, DataReceived):
                answer.body += h3_event.data
                answer.news.set()
            if h3_event.stream_ended:
                answer.end()

    def head(self, method, path, *fields):
        return [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", NAME.encode()),
            (b":path", path.encode()),
            *fields,
        ]

    def begin(self, fields, end):
        stream = self._quic.get_next_available_stream_id()
        self.answers[stream] = Answer()
        self.http.send_headers(stream, fields, end_stream=end)
        self.transmit()
        return stream, self.answers[stream]

    def raw(self, data, end=False):
        """Bytes on a new request's stream."""
        stream = self._quic.get_next_available_stream_id()
        self.answers[stream] = Answer()
        self._quic.send_stream_data(stream, data, end)
        self.transmit()
        return stream, self.answers[stream]

    def send(self, stream, data, end=False):
        self._quic.send_stream_data(stream, data, end)
        self.transmit()

    def block(self, fields):
        """Fields as QPACK writes them without a dynamic table."""
        return self.http._encode_headers(1 << 20, fields)

    async def room(self, stream):
        """Waits until the server has taken nearly all that was sent on `stream`."""
        sender = self._quic._streams[stream].sender
        while sender._buffer_stop - sender._buffer_start > 1 << 20 and not self.ended.done():
            await asyncio.sleep(0)

    async def get(self, path, method="GET"):
        _, answer = self.begin(self.head(method, path), True)
        return await answer.whole()


class Answer:
    """What came on one stream."""

    def __init__(self):
        self.sections = []
        self.body = b""
        self.news = asyncio.Event()
        self.done = asyncio.get_running_loop().create_future()

    def fields(self, headers):
        self.sections.append({name.decode(): value.decode("latin1") for name, value in headers})
        self.news.set()

    def end(self):
        if not self.done.done():
            self.done.set_result(None)

    def fail(self, why):
        if not self.done.done():
            self.done.set_result(why)

    async def whole(self):
        failure = await asyncio.wait_for(self.done, LONG)
        return self.shown(failure)

    def shown(self, failure=None):
        head = self.sections[0] if self.sections else {}
        trailers = self.sections[1] if len(self.sections) > 1 else None
        return {
            "status": int(head.pop(":status", 0)),
            "fields": head,
            "bytes": len(self.body),
            "body": self.body[:2000].decode("latin1"),
            "trailers": trailers,
            "failure": failure,
        }


def open_connection(port, ca):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=NAME)
    configuration.verify_mode = ssl.CERT_REQUIRED
    configuration.load_verify_locations(ca)
    configuration.idle_timeout = LONG * 2
    return connect("127.0.0.1", port, configuration=configuration, create_protocol=Client)


async def post(client, length):
    fields = client.head("POST", "/echo", (b"content-length", str(length).encode()), (b"te", b"trailers"))
    stream, answer = client.begin(fields, False)
    piece = bytes(range(251)) * 40
    left = length
    while left > 0:
        client.send(stream, encode_frame(DATA, piece[: min(left, len(piece))]))
        left -= min(left, len(piece))
        await client.room(stream)
    client.http.send_headers(stream, [(b"x-sum", b"42")], end_stream=True)
    client.transmit()
    return await answer.whole()


async def events(client, path):
    _, answer = client.begin(client.head("GET", path), True)
    seen = 0
    for _ in range(2):
        while answer.body.count(b"\n\n") <= seen:
            answer.news.clear()
            await asyncio.wait_for(answer.news.wait(), LONG)
        seen += 1
        print(json.dumps({"events": seen}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return answer.shown()


def wrong_requests(client):
    """Name, stream bytes, whether they end, and what may come of it."""
    head = client.head("GET", "/x")
    headers = lambda fields: encode_frame(HEADERS, client.block(fields))
    message = {"reset 0x10e"}
    frame = {f"connection {int(ErrorCode.H3_FRAME_UNEXPECTED):#x}"}
    yield "upper-case name", headers(head + [(b"X-A", b"1")]), True, message
    yield "connection", headers(head + [(b"connection", b"close")]), True, message
    yield "transfer-encoding", headers(head + [(b"transfer-encoding", b"chunked")]), True, message
    yield "te gzip", headers(head + [(b"te", b"gzip")]), True, message
    yield "unknown pseudo-header", headers([(b":x", b"1")] + head), True, message
    yield "no authority", headers([f for f in head if f[0] != b":authority"]), True, message
    yield "no method", headers([f for f in head if f[0] != b":method"]), True, message
    yield "no path", headers([f for f in head if f[0] != b":path"]), True, message
    yield "two lengths", headers(head + [(b"content-length", b"1")] * 2), True, message
    yield "a length of words", headers(head + [(b"content-length", b"many")]), True, message
    yield "host against authority", headers(head + [(b"host", b"elsewhere")]), True, message
    yield "line feed in a value", headers(head + [(b"x-a", b"a\nb")]), True, message
    yield "short body", headers(client.head("POST", "/x", (b"content-length", b"9"))) + encode_frame(DATA, b"few"), True, {400}
    yield "long body", headers(client.head("GET", "/x", (b"content-length", b"1"))) + encode_frame(DATA, b"many"), True, {400}
    yield "two hosts", headers(head + [(b"host", NAME.encode())] * 2), True, {400} | message
    yield "dot segments", headers(client.head("GET", "/a/../b")), True, {400}
    yield "encoded NUL", headers(client.head("GET", "/a%00b")), True, {400}
    yield "CONNECT", headers([(b":method", b"CONNECT"), (b":authority", b"hub.test:1")]), True, {501}
    yield "body first", encode_frame(DATA, b"x"), True, frame
    yield "settings in a request", encode_frame(0x4, b""), True, frame
    yield "HTTP/2's ping", encode_frame(0x6, b"12345678"), True, frame
    yield "push promise", encode_frame(0x5, b"\x00\x00\x00"), True, frame
    yield "cut off", headers(head)[:-3], True, {f"connection {int(ErrorCode.H3_FRAME_ERROR):#x}"}
    yield "no head", b"", True, {f"reset {int(ErrorCode.H3_REQUEST_INCOMPLETE):#x}"}
    yield "bad QPACK", encode_frame(HEADERS, b"\x05\x00\xff"), True, {f"connection {int(ErrorCode.QPACK_DECOMPRESSION_FAILED):#x}"}
    yield "huge section", headers(head + [(b"x-a", b"a" * 40_000)]), True, {"reset 0x102", "reset 0x107", 431}
    yield "section that unpacks", headers(head + [(b"cookie", b"")] * 3000), True, {431}
    yield "too many fields", headers(head + [(b"x-%d" % n, b"") for n in range(300)]), True, {431}


async def one_wrong(port, ca, name):
    async with open_connection(port, ca) as client:
        _, data, end, expected = next(case for case in wrong_requests(client) if case[0] == name)
        _, answer = client.raw(data, end)
        if any(str(e).startswith("connection") for e in expected):
            # The stream may be reset just before.
            outcome = f"connection {await asyncio.wait_for(client.ended, LONG):#x}"
        else:
            seen = await answer.whole()
            outcome = seen["failure"] or seen["status"]
        return None if outcome in expected else f"{name}: {outcome}, not {sorted(map(str, expected))}"


async def broken(client, port, ca):
    stop = asyncio.Event()
    fine = {"requests": 0, "failed": 0}

    async def others():
        while not stop.is_set():
            answer = await client.get("/ok")
            fine["requests"] += 1
            fine["failed"] += answer["status"] != 200

    running = asyncio.ensure_future(others())
    names = [case[0] for case in wrong_requests(client)]
    surprises = [s for s in [await one_wrong(port, ca, name) for name in names] if s]
    stop.set()
    await running
    return {"cases": len(names), "surprises": surprises, **fine}


async def empty_data(client):
    stream, answer = client.begin(client.head("POST", "/echo"), False)
    unknown = encode_frame(0x21, b"x" * 100)
    for data in [b"one ", b"", unknown, b"two ", b"", b"three"]:
        client.send(stream, data if data == unknown else encode_frame(DATA, data))
    client.send(stream, encode_frame(DATA, b""), True)
    return await answer.whole()


async def many_frames(client, megabytes):
    stream, answer = client.begin(client.head("POST", "/echo"), False)
    piece = encode_frame(DATA, b"x") * (1 << 14)
    for _ in range(megabytes * (1 << 20) // len(piece)):
        client.send(stream, piece)
        await client.room(stream)
    client.send(stream, b"", True)
    return await answer.whole()


async def large_frame(client, megabytes):
    length = megabytes << 20
    stream, answer = client.raw(encode_uint_var(HEADERS) + encode_uint_var(length))
    piece = b"\x00" * (1 << 16)
    for _ in range(length // len(piece)):
        if answer.done.done():
            break
        client.send(stream, piece)
        await client.room(stream)
        await asyncio.sleep(0)
    return await answer.whole()


async def cancel(client, count):
    for _ in range(count):
        if client.ended.done():
            break
        stream, _ = client.begin(client.head("GET", "/slow"), True)
        client._quic.stop_stream(stream, int(ErrorCode.H3_REQUEST_CANCELLED))
        client.transmit()
        await asyncio.sleep(0.002)
    return {"ended": await asyncio.wait_for(client.ended, LONG)}


async def unread(client):
    # No more credit for any stream than it began with.
    client._quic._write_stream_limits = lambda *arguments, **named: None
    client.begin(client.head("GET", "/large"), True)
    others = 0
    while not client.ended.done():
        answer = asyncio.ensure_future(client.get("/small"))
        await asyncio.wait([answer, client.ended], timeout=LONG, return_when=asyncio.FIRST_COMPLETED)
        if answer.done() and answer.result()["status"] == 200:
            others += 1
        await asyncio.sleep(0.1)
    return {"others": others}


async def goodbye(client, path):
    _, answer = client.begin(client.head("GET", path), True)
    print(json.dumps({"sent": True}), flush=True)
    shown = await answer.whole()
    began = time.monotonic()
    ended = await asyncio.wait_for(client.ended, LONG)
    return {**shown, "ended": ended, "after_s": time.monotonic() - began}


async def run(port, ca, case, argument):
    async with open_connection(port, ca) as client:
        match case:
            case "get":
                return await client.get(argument)
            case "head":
                return await client.get(argument, "HEAD")
            case "post":
                return await post(client, int(argument))
            case "many":
                answers = await asyncio.gather(*(client.get(f"/{n}") for n in range(int(argument))))
                return {"good": sum(a["status"] == 200 and a["failure"] is None for a in answers)}
            case "events":
                return await events(client, argument)
            case "broken":
                return await broken(client, port, ca)
            case "empty-data":
                return await empty_data(client)
            case "many-frames":
                return await many_frames(client, int(argument))
            case "large-frame":
                return await large_frame(client, int(argument))
            case "cancel":
                return await cancel(client, int(argument))
            case "unread":
                return await unread(client)
            case "goodbye":
                return await goodbye(client, argument)
    raise SystemExit(f"no such case: {case}")


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        raise SystemExit(__doc__)
    argument = sys.argv[4] if len(sys.argv) == 5 else ""
    print(json.dumps(asyncio.run(run(int(sys.argv[1]), sys.argv[2], sys.argv[3], argument))))
