#!/usr/bin/env python3
"""A plain WebSocket server that sends back what it gets. Prints {"port": PORT}."""

import asyncio
import json

from websockets.asyncio.server import serve


async def echo(socket):
    async for message in socket:
        await socket.send(message)


async def main():
    async with serve(echo, "127.0.0.1", 0, max_size=None, max_queue=4) as server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await server.serve_forever()


asyncio.run(main())
