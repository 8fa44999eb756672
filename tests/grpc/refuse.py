"""A server by gRPC's C core that refuses what it is sent before it has read it, as one does that wants a token.

    refuse.py

Calls of /test/Upload, streams of messages, end at once with UNAUTHENTICATED: Trailers-Only, then RST_STREAM with NO_ERROR. Calls of /test/Echo take half a
second. Prints the port it listens on, and serves until its input ends.
"""

import sys
import time
from concurrent import futures

import grpc


def as_is(message):
    return message


def upload(_, context):
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")


def echo(message, _):
    time.sleep(0.5)
    return message


def main():
    server = grpc.server(futures.ThreadPoolExecutor(64))
    handlers = {
        "Upload": grpc.stream_unary_rpc_method_handler(upload, as_is, as_is),
        "Echo": grpc.unary_unary_rpc_method_handler(echo, as_is, as_is),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


main()
