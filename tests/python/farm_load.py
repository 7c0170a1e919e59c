"""Measures a hub: memory per exporter, CPU per operation, the listing.

    farm_load.py http://localhost:2092 PID [EXPORTERS]

PID is the hub's process, whose memory and CPU time are read from /proc. Needs `websockets`
(requirements-farm.txt), and as many open files as there are exporters.
"""

import asyncio
import itertools
import json
import os
import resource
import statistics
import sys
import time
import urllib.request

import websockets

AGENTS = 64
ROUNDS = 100
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Peer:
    """An exporter that confirms everything, or an agent."""

    @classmethod
    async def connect(cls, url):
        peer = cls()
        peer.socket = await websockets.connect(
            url.replace("http", "ws", 1) + "/ws", compression=None, ping_interval=None, max_size=None
        )
        peer.ids = itertools.count(1)
        peer.replies = {}
        peer.reader = asyncio.create_task(peer.read())
        return peer

    async def read(self):
        async for message in self.socket:
            message = json.loads(message)
            if "method" in message:
                await self.socket.send(json.dumps({"id": message["id"], "result": None}).encode())
            else:
                self.replies.pop(message["id"]).set_result(message)

    async def call(self, method, *params):
        number = next(self.ids)
        reply = self.replies[number] = asyncio.get_running_loop().create_future()
        await self.socket.send(json.dumps({"id": number, "method": method, "params": params}).encode())
        message = await reply
        if "error" in message:
            raise RuntimeError(message["error"]["message"])
        return message["result"]


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def place(number):
    part = {"compatible": ["a", "b"], "tcp": {"web": {"host": "localhost", "port": 80}}}
    return {"name": f"place{number}", "port": 29201, "parts": [part]}


async def measure(url, pid, count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    at_start = resident_kib(pid)
    print(f"resident at start: {at_start} KiB")

    before = cpu_s(pid)
    exporters = []
    for start in range(0, count, 50):
        numbers = range(start, min(start + 50, count))
        peers = await asyncio.gather(*(Peer.connect(url) for _ in numbers))
        calls = (peer.call("register_place", place(number)) for peer, number in zip(peers, numbers))
        await asyncio.gather(*calls)
        exporters += peers
    each_kib = (resident_kib(pid) - at_start) / count
    print(f"{count} exporters: {each_kib:.1f} KiB and {(cpu_s(pid) - before) / count * 1e6:.0f} us of CPU each")

    times = []
    for _ in range(20):
        begin = time.perf_counter()
        listing = urllib.request.urlopen(f"{url}/api/v1/places").read()
        times.append(time.perf_counter() - begin)
    print(f"GET /api/v1/places, {len(listing)} bytes: p50 {statistics.median(times) * 1e3:.2f} ms")

    ids = [entry["id"] for entry in json.loads(listing)["places"]]
    agents = await asyncio.gather(*(Peer.connect(url) for _ in range(AGENTS)))
    times = []
    for _ in range(50):
        begin = time.perf_counter()
        held = await agents[0].call("reserve", ids)
        times.append(time.perf_counter() - begin)
        await agents[0].call("return_reservation", held)
    print(f"reserve with {len(ids)} candidates: p50 {statistics.median(times) * 1e3:.2f} ms")

    async def use(agent, candidate):
        for _ in range(ROUNDS):
            await agent.call("return_reservation", await agent.call("reserve", [candidate]))

    for name, wanted in [("a place each", ids[:AGENTS]), ("one place", ids[:1] * AGENTS)]:
        before, begin = cpu_s(pid), time.perf_counter()
        await asyncio.gather(*(use(agent, candidate) for agent, candidate in zip(agents, wanted)))
        pairs, seconds = len(wanted) * ROUNDS, time.perf_counter() - begin
        cpu_us = (cpu_s(pid) - before) / pairs * 1e6
        print(f"{AGENTS} agents, {name}: {cpu_us:.0f} us of CPU per reserve and return, {pairs / seconds:.0f} per second")

    for peer in exporters + agents:
        peer.reader.cancel()


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    asyncio.run(measure(sys.argv[1], int(sys.argv[2]), int((sys.argv[3:] or ["1000"])[0])))
