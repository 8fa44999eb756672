"""Ordinary gRPC over one connection, as gRPC's C core sends it: what a gateway must not take for a flood.

    load.py ADDRESS KIND COUNT

KIND: unary (calls of a few bytes, 100 at once), pingpong (messages of a byte on one stream), cancel (streams that are cancelled after their first message,
500 a second), deadline (calls that take longer than their 20 ms, 100 at once), refused (streams of messages that the server ends at once with
UNAUTHENTICATED, beside calls that take a while). Prints one line: how many came to what they should, what the others came to,
and the seconds it took. Messages are bytes as they are, so nothing is generated.
"""

import collections
import json
import queue
import sys
import threading
import time

import grpc

AT_ONCE = 100
CANCELS_A_SECOND = 500
PATIENCE = 20


def as_is(message):
    return message


class Client:
    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.came = collections.Counter()
        self.lock = threading.Lock()

    def note(self, what):
        with self.lock:
            self.came[what] += 1

    def at_once(self, count, path, wanted, timeout):
        """So many calls, AT_ONCE of them under way at a time."""
        call = self.channel.unary_unary(path, as_is, as_is)
        places = threading.Semaphore(AT_ONCE)

        def done(future):
            code, text = future.code(), future.details()
            self.note("well" if code == wanted else f"{code.name}: {text}")
            places.release()

        for _ in range(count):
            places.acquire()
            call.future(b"x", timeout=timeout).add_done_callback(done)
        for _ in range(AT_ONCE):
            places.acquire()

    def unary(self, count):
        self.at_once(count, "/test/Echo", grpc.StatusCode.OK, PATIENCE)

    def deadline(self, count):
        self.at_once(count, "/test/Slow", grpc.StatusCode.DEADLINE_EXCEEDED, 0.02)

    def pingpong(self, count):
        balls = queue.Queue()
        stream = self.channel.stream_stream("/test/Echo", as_is, as_is)(iter(balls.get, None), timeout=PATIENCE)
        for _ in range(count):
            balls.put(b"x")
            self.note("well" if next(stream) == b"x" else "another message")
        balls.put(None)
        for _ in stream:
            self.note("one message too many")

    def cancel(self, count):
        begun = time.monotonic()
        for n in range(count):
            time.sleep(max(0, begun + n / CANCELS_A_SECOND - time.monotonic()))
            stream = self.channel.unary_stream("/test/Stream", as_is, as_is)(b"x", timeout=PATIENCE)
            self.note("well" if next(stream) == b"x" else "another message")
            stream.cancel()

    def refused(self, count):
        """The server ends each stream while messages are still to come."""
        beside = self.channel.unary_unary("/test/Echo", as_is, as_is)
        calls = [beside.future(b"x", timeout=PATIENCE) for _ in range(10)]
        upload = self.channel.stream_unary("/test/Upload", as_is, as_is)
        for _ in range(count):
            messages = queue.Queue()
            messages.put(b"x")
            try:
                upload(iter(messages.get, None), timeout=PATIENCE)
            except grpc.RpcError as error:
                wanted = error.code() == grpc.StatusCode.UNAUTHENTICATED and error.details() == "no token"
                self.note("well" if wanted else f"{error.code().name}: {error.details()}")
            messages.put(None)
        for call in calls:
            if call.exception() is not None:
                self.note(f"beside: {call.code().name}: {call.details()}")


def main():
    address, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    client = Client(address)
    begun = time.monotonic()
    try:
        getattr(client, kind)(count)
    except grpc.RpcError as error:
        client.note(f"{error.code().name}: {error.details()}")
    seconds = time.monotonic() - begun
    well = client.came.pop("well", 0)
    print(json.dumps({"well": well, "others": client.came, "seconds": round(seconds, 2)}))


main()
