"""A WebSocket server that sends back what it gets, over HTTP/1.1: server.py PORT"""

import asyncio
import sys

import websockets


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main():
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[1]), subprotocols=["echo"], max_size=None):
        print("serving", flush=True)
        await asyncio.Future()


asyncio.run(main())
