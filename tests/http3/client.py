"""A client of HTTP/3 by aioquic (PyPI). It sends what it is told, over one connection, and prints a line of JSON for each response.

client.py ADDRESS PORT CA_FILE HOST [METHOD PATH [CONTENT_BYTES [TRAILER_NAME TRAILER_VALUE]]]...

Requests are separated by `--`; they are sent at once.
"""

import asyncio
import json
import ssl
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamReset


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.responses = {}

    async def ask(self, host, method, path, content=0, *trailer):
        stream = self._quic.get_next_available_stream_id()
        done = asyncio.get_running_loop().create_future()
        self.responses[stream] = ({"heads": [], "body": 0, "start": ""}, done)
        content = int(content)
        head = [(b":method", method), (b":scheme", b"https"), (b":authority", host), (b":path", path), (b"user-agent", b"aioquic")]
        encoded = [(name, value if isinstance(value, bytes) else value.encode()) for name, value in head]
        self.http.send_headers(stream, encoded, end_stream=not content and not trailer)
        if content:
            self.http.send_data(stream, b"x" * content, end_stream=not trailer)
        if trailer:
            self.http.send_headers(stream, [(trailer[0].encode(), trailer[1].encode())], end_stream=True)
        self.transmit()
        return await asyncio.wait_for(done, 15)

    def quic_event_received(self, event):
        if isinstance(event, StreamReset) and event.stream_id in self.responses:
            self.end(event.stream_id, reset=event.error_code)
        if isinstance(event, ConnectionTerminated):
            for stream in self.responses:
                self.end(stream, closed=event.error_code)
        for event in self.http.handle_event(event):
            if event.stream_id not in self.responses:
                continue
            response, _ = self.responses[event.stream_id]
            if isinstance(event, HeadersReceived):
                response["heads"].append({name.decode(): value.decode() for name, value in event.headers})
            elif isinstance(event, DataReceived):
                response["body"] += len(event.data)
                response["start"] = (response["start"] + event.data.decode())[:2000]
            if event.stream_ended:
                self.end(event.stream_id)

    def end(self, stream, **why):
        response, done = self.responses[stream]
        if not done.done():
            done.set_result(response | why)


async def main(address, port, authority, host, *words):
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_REQUIRED, server_name=host, idle_timeout=10
    )
    configuration.load_verify_locations(authority)
    requests, words = [], list(words)
    while words:
        end = words.index("--") if "--" in words else len(words)
        requests.append(words[:end])
        words = words[end + 1 :]
    async with connect(address, int(port), configuration=configuration, create_protocol=Client) as client:
        for response in await asyncio.gather(*(client.ask(host, *request) for request in requests)):
            print(json.dumps(response))


asyncio.run(main(*sys.argv[1:]))
