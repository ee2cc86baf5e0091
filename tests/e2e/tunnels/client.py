"""Clients of a WebSocket server behind gateways: client.py HOST:PORT ROW...

Each row that holds is printed as `ok ROW`.
"""

import asyncio
import os
import socket
import struct
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings
import websockets

PATIENCE = 20


class Http2:
    """A connection of HTTP/2 in clear text, by prior knowledge."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=PATIENCE)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.heads, self.bytes, self.ended, self.resets = {}, {}, set(), {}
        self.flush()
        self.until(lambda: h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL in self.h2.remote_settings)

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def until(self, done):
        while not done():
            data = self.socket.recv(65536)
            assert data, "the gateway has closed the connection"
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    self.heads[event.stream_id] = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    self.bytes[event.stream_id] = self.bytes.get(event.stream_id, b"") + event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self.ended.add(event.stream_id)
                elif isinstance(event, h2.events.StreamReset):
                    self.resets[event.stream_id] = event.error_code
            self.flush()

    def ask(self, fields, end=False):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields, end_stream=end)
        self.flush()
        self.until(lambda: stream in self.heads or stream in self.resets)
        return stream

    def send(self, stream, data):
        while data:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room == 0:
                self.until(lambda: self.h2.local_flow_control_window(stream) > 0)
                continue
            self.h2.send_data(stream, data[:room])
            data = data[room:]
            self.flush()

    def take(self, stream, count):
        self.until(lambda: len(self.bytes.get(stream, b"")) >= count or stream in self.resets)
        got = self.bytes.get(stream, b"")
        assert len(got) >= count, f"reset after {len(got)} bytes"
        self.bytes[stream] = got[count:]
        return got[:count]

    def websocket(self, authority):
        return self.ask(
            [
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":path", "/chat"),
                (":authority", authority),
                ("sec-websocket-version", "13"),
                ("sec-websocket-protocol", "echo"),
                ("origin", "http://" + authority),
            ]
        )


def masked(opcode, data):
    """A frame of RFC 6455, 5.2, of a client."""
    mask = os.urandom(4)
    length = len(data)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
    key = (mask * (length // 4 + 1))[:length]
    return head + mask + (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")


def message(client, stream):
    """The opcode and the bytes of the next frame that the server sends."""
    first, length = client.take(stream, 2)
    if length == 126:
        (length,) = struct.unpack("!H", client.take(stream, 2))
    elif length == 127:
        (length,) = struct.unpack("!Q", client.take(stream, 8))
    return first & 15, client.take(stream, length)


def over_http2(address, authority):
    """A WebSocket beside a request, on one connection."""
    client = Http2(address)
    stream = client.websocket(authority)
    head = client.heads[stream]
    assert head[":status"] == "200", head
    assert head["sec-websocket-protocol"] == "echo", head
    assert "sec-websocket-accept" not in head and "upgrade" not in head and "content-length" not in head, head
    client.send(stream, masked(1, b"hello"))
    assert message(client, stream) == (1, b"hello")
    other = client.ask([(":method", "GET"), (":scheme", "http"), (":path", "/other"), (":authority", authority)], True)
    assert client.heads[other][":status"] == "426", client.heads[other]
    big = os.urandom(500_000)
    client.send(stream, masked(2, big))
    assert message(client, stream) == (2, big)
    client.send(stream, masked(8, struct.pack("!H", 1000)))
    assert message(client, stream) == (8, struct.pack("!H", 1000))
    client.h2.end_stream(stream)
    client.flush()
    client.until(lambda: stream in client.ended)
    assert stream not in client.resets


async def over_http1(authority):
    async with websockets.connect(f"ws://{authority}/chat", subprotocols=["echo"], max_size=None) as client:
        assert client.subprotocol == "echo"
        await client.send("hello")
        assert await client.recv() == "hello"
        big = os.urandom(500_000)
        await client.send(big)
        assert await client.recv() == big
        await client.ping()
    assert client.close_code == 1000


def refused(address, authority):
    """The origin knows no WebSocket, or answers what was not asked."""
    client = Http2(address)
    stream = client.websocket(authority)
    assert client.heads[stream][":status"] == "502", client.heads[stream]


def main():
    authority, rows = sys.argv[1], sys.argv[2:]
    host, port = authority.rsplit(":", 1)
    for row in rows:
        if row == "http2":
            over_http2((host, int(port)), authority)
        elif row == "http1":
            asyncio.run(asyncio.wait_for(over_http1(authority), PATIENCE))
        elif row == "refused":
            refused((host, int(port)), authority)
        else:
            raise SystemExit(f"there is no row {row}")
        print("ok", row, flush=True)


main()
