#!/usr/bin/env python3
"""Handshakes of one worker whose key is in the pretended card (tests/support/card): synchronous and asynchronous, by provider and engine, over epoll
and over the DPDK loop, told by callback, descriptor and poll, with OpenSSL and with rustls on fibres.

    bench/offload.py [--latencies 1,5,100] [--seconds 4] [--rounds 1] [--planes kernel,dpdk] [--rsa]
    bench/offload.py --loss [--pairs 12] [--seconds 4]

Needs target/release/{ferrogate,ferrogate-bench} built with `dpdk,openssl`, and target/release/libcard.so (`cargo build --release -p card-simulator`).
The gateway's one worker is on core 0, the card's thread and the clients on core 1: over loopback, or by a DPDK port of their own over memif, shared
memory. Each connection is one full TLS 1.3 handshake with an ECDSA P-256 key, or RSA-2048 with --rsa, one request, which the gateway answers itself,
and its end. `in flight` is the most that the metric said in some ten looks a second. A row of `--card` is a card of so many operations a second
(slots / latency), for which the use of it counts.

Gateway and clients are each a session with the kernel's highest priority for one (/proc/PID/autogroup, as root): a loop that polls is never asleep, so
that without it every other session that computes has as much of the core, however nice its processes are. `waited` is how much of the time the worker
was runnable and had no core; a row with more than a few percent tells of the machine.

With --loss: 64 clients make one handshake after the other, all the time, and beside them 16 that keep their connections ask 1,000 times a second in one
window after the other. In every second window the card goes and comes back. The two of a pair change places from pair to pair; told are the medians over
the pairs, and of the ratio of p99 also the 95 % interval, from resampled pairs.
"""

import argparse
import atexit
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

CLIENTS, ADMIN, PORT = 256, 34907, 8443
# Name, and what the file says of the accelerator.
WAYS = {
    "OpenSSL, synchronous": {"backend": "openssl", "async": "false"},
    "OpenSSL, callback": {"backend": "openssl", "notify": "callback"},
    "OpenSSL, fd": {"backend": "openssl", "notify": "fd"},
    "OpenSSL, poll": {"backend": "openssl", "notify": "poll"},
    "OpenSSL, engine, callback": {"backend": "openssl", "notify": "callback", "kind": "engine"},
    "OpenSSL, engine, fd": {"backend": "openssl", "notify": "fd", "kind": "engine"},
    "OpenSSL, engine, poll": {"backend": "openssl", "notify": "poll", "kind": "engine"},
    "rustls, callback": {"backend": "rustls", "notify": "callback"},
    "rustls, fd": {"backend": "rustls", "notify": "fd"},
    "rustls, poll": {"backend": "rustls", "notify": "poll"},
    "rustls, engine, callback": {"backend": "rustls", "notify": "callback", "kind": "engine"},
}


def config(args, folder, plane, way, card):
    engine = way.get("kind") == "engine"
    key = f'"store:{folder}/key.pem"' if engine else f"{folder}/key.pem"
    completion = way.get("notify", "callback")
    told = {"completion": completion, **card}
    parameters = ", ".join(f'{name}: "{value}"' for name, value in told.items())
    accelerator = f"name: card0, id: card, path: {args.bin}/libcard.so, parameters: {{{parameters}}}, "
    accelerator += "timeout: 200ms, retry_interval: 500ms" if args.loss else "timeout: 30s, fallback: fail"
    accelerator += "".join(f", {name}: {way[name]}" for name in ("kind", "notify", "async") if name in way)
    if completion == "poll":
        accelerator += ", poll_interval: 50us"
    ip = "127.0.0.1" if plane == "kernel" else "10.99.0.1"
    if plane == "kernel":
        dataplane = "{type: kernel, workers: 1}"
    else:
        device = f"net_memif0,role=server,id=0,socket={folder}/a.sock,socket-abstract=no,rsize=11"
        dataplane = (
            "{type: dpdk, workers: 1, fallback: none, dpdk: {hugepages: false, memory_mib: 256, rx_ring_bytes: 16KiB, tx_ring_bytes: 16KiB, "
            f'eal_args: ["--file-prefix", "fgoffload"], ports: [{{device: "{device}", address: {ip}/24}}]}}}}'
        )
    return f"""servers:
- default_log_path: stderr
  default_log_level: WARN
  graceful_timeout: 1s
  listeners:
  - name: web
    address: {ip}:{PORT}
    filter_chains:
    - filters: [{{type: proxy, config: {{downstream_protocol: Http1, router_config_name: web}}}}]
      tls_context: {{status: true, cert_chain: {folder}/cert.pem, private_key: {key}, accelerator: card0}}
  routers:
  - router_config_name: web
    virtual_hosts: [{{name: all, domains: ["*"], routers: [{{match: {{prefix: /}}, direct_response: {{status: 200, body: ok}}}}]}}]
tls_backend: {{backend: {way["backend"]}, accelerators: [{{{accelerator}}}]}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {ADMIN}}}}}}}
dataplane: {dataplane}
"""


def metrics():
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics", timeout=5) as answer:
        lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines)}


def of_card(name):
    return next((v for k, v in metrics().items() if k.startswith(f"ferrogate_tls_accelerator_{name}{{")), 0.0)


def cpu_seconds(process):
    """What the worker's thread took: the card's thread is not the gateway's."""
    for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        if name.startswith(("worker-0", "lcore-0", "lcore")):
            fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / 100
    return 0.0


def waited_seconds(process):
    """For how long the worker's thread was runnable and had no core."""
    for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
        if (task / "comm").read_text().strip().startswith(("worker-0", "lcore")):
            return int((task / "schedstat").read_text().split()[1]) / 1e9
    return 0.0


def put_first(process, nice=-20):
    """The process's session comes before all others of the machine."""
    try:
        pathlib.Path(f"/proc/{process}/autogroup").write_text(str(nice))
    except OSError as error:
        print(f"no priority over the machine's other sessions: {error}", file=sys.stderr)


def started(words, **more):
    """A process in a session of its own, which comes before all others."""
    child = subprocess.Popen(words, start_new_session=True, **more)
    put_first(child.pid)
    return child


def started_load(words):
    return started(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


class Gateway:
    def __init__(self, args, folder, plane, way, card):
        path = folder / "gateway.yaml"
        path.write_text(config(args, folder, plane, way, card))
        self.log = folder / "gateway.log"
        words = ["taskset", "-c", "0", args.bin / "ferrogate", "start", "-c", path]
        self.child = started(words, stderr=self.log.open("w"), stdout=subprocess.DEVNULL)
        deadline = time.time() + 20
        while True:
            try:
                metrics()
                if plane == "kernel" or (folder / "a.sock").exists():
                    return self.move_card()
            except OSError:
                pass
            if time.time() > deadline or self.child.poll() is not None:
                sys.exit(f"the gateway did not start: {self.log.read_text()}")
            time.sleep(0.05)

    def move_card(self):
        """A card's time is none of the worker's: its thread goes to the clients' core."""
        for task in pathlib.Path(f"/proc/{self.child.pid}/task").iterdir():
            if (task / "comm").read_text().strip() == "card":
                os.sched_setaffinity(int(task.name), {1})

    def end(self):
        self.child.terminate()
        self.child.wait(timeout=30)


def measure(args, folder, plane, way, card, seconds):
    (folder / "a.sock").unlink(missing_ok=True)
    gateway = Gateway(args, folder, plane, way, card)
    load = None
    try:
        words = ["taskset", "-c", "1", args.bin / "ferrogate-bench", "load", "--connections", str(CLIENTS), "--tls"]
        words += ["--tls-version", "1.3", "--requests-per-connection", "1", "--seconds", str(seconds), "--warmup", "1", "--timeout", "60"]
        words += ["--server-name", "test.example"]
        if plane == "kernel":
            words += ["--to", f"127.0.0.1:{PORT}", "--source", ",".join(f"127.0.0.{i}" for i in range(2, 12))]
        else:
            words += ["--to", f"10.99.0.1:{PORT}", "--memif", folder / "a.sock", "--memif-address", "10.99.0.2/24", "--no-huge", "--hold"]
            words += ["--ring-bytes", "16384", "--origin-port", "9000"]
        load = started_load(words)
        lines, most, done = [], 0.0, threading.Event()

        def read():
            for line in load.stdout:
                if line.startswith("{"):
                    lines.append(line)
                    break
            done.set()

        threading.Thread(target=read, daemon=True).start()
        time.sleep(1.2)
        before, began, cpu, waited = of_card("offloaded_total"), time.time(), cpu_seconds(gateway.child), waited_seconds(gateway.child)
        while not done.wait(0.1):
            if time.time() - began < seconds - 0.5:
                most = max(most, of_card("in_flight"))
                after, took, cpu_after = of_card("offloaded_total"), time.time() - began, cpu_seconds(gateway.child)
                waited_after = waited_seconds(gateway.child)
        # It may have ended before its last line was read, or without one.
        if not lines:
            sys.exit(f"the load ended without a result: {gateway.log.read_text()}")
        found = json.loads(lines[0])
        count = max(after - before, 1)
        return {
            "handshakes": found["requests"] / found["seconds"],
            "in_flight": most,
            "p50": found["latency_us"]["p50"] / 1000,
            "p99": found["latency_us"]["p99"] / 1000,
            "errors": sum(found["errors"].values()),
            "card": (after - before) / took,
            "cpu_us": (cpu_after - cpu) * 1e6 / count,
            "waited": (waited_after - waited) * 100 / took,
        }
    finally:
        gateway.end()
        if load is not None:
            if load.stdin:
                load.stdin.close()
            load.wait(timeout=30)


def load_words(args, connections, seconds, *more):
    words = ["taskset", "-c", "1", args.bin / "ferrogate-bench", "load", "--tls", "--to", f"127.0.0.1:{PORT}", "--timeout", "60", "--warmup", "1"]
    return [*words, "--server-name", "test.example", "--connections", str(connections), "--seconds", str(seconds), *more]


def stayers(args, folder, goes):
    """p99, in ms, of those who keep their connections, in one window: with `goes` the card is away for the second quarter of it."""
    load = started_load(load_words(args, 16, args.seconds, "--rate", "1000"))
    time.sleep(1 + args.seconds / 4)
    if goes:
        (folder / "gone").touch()
    time.sleep(args.seconds / 4)
    (folder / "gone").unlink(missing_ok=True)
    found = json.loads(load.communicate()[0].splitlines()[-1])
    deadline = time.time() + 20
    while of_card("is_left") and time.time() < deadline:
        time.sleep(0.05)
    return {"p99": found["latency_us"]["p99"] / 1000, "errors": sum(found["errors"].values())}


def measure_loss(args, folder, way):
    """The windows of both kinds, in pairs; and of the clients that make handshakes how many they made and how many failed."""
    card = {"latency_us": 1000, "slots": CLIENTS, "gone_file": folder / "gone"}
    gateway = Gateway(args, folder, "kernel", way, card)
    try:
        # Longer than all windows: ended when they are over.
        sources = ["--source", ",".join(f"127.0.0.{i}" for i in range(2, 12))]
        shake = started_load(load_words(args, 64, args.pairs * (2 * args.seconds + 6), "--requests-per-connection", "1", *sources))
        time.sleep(1.5)
        waited, began, done = waited_seconds(gateway.child), time.time(), of_card("handshakes_total")
        pairs = []
        for number in range(args.pairs):
            order = (False, True) if number % 2 == 0 else (True, False)
            pairs.append({goes: stayers(args, folder, goes) for goes in order})
        took = time.time() - began
        found = {
            "waited": (waited_seconds(gateway.child) - waited) * 100 / took,
            "handshakes": (of_card("handshakes_total") - done) / took,
            **{name: of_card(f"{name}_total") for name in ("software", "left", "timeouts")},
        }
        shaken = json.loads(shake.communicate()[0].splitlines()[-1])
        found["errors"] = sum(shaken["errors"].values()) + sum(window["errors"] for pair in pairs for window in pair.values())
        return pairs, found
    finally:
        gateway.end()


def interval(ratios):
    """Of their median: where 95 of 100 medians of resampled ones are."""
    chance = random.Random(1)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[1949]


def loss(args, folder):
    print("| way | pairs | p99 with the card, ms | p99 when it goes, ms | ratio | 95 % | handshakes/s | failed | by software | left alone | timeouts | waited |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in ("OpenSSL, callback", "rustls, callback"):
        if args.ways not in name:
            continue
        pairs, f = measure_loss(args, folder, WAYS[name])
        with_card, without = ([pair[goes]["p99"] for pair in pairs] for goes in (False, True))
        ratios = [b / a for a, b in zip(with_card, without)]
        low, high = interval(ratios)
        print(
            f"| {name} | {len(pairs)} | {statistics.median(with_card):.2f} | {statistics.median(without):.2f} | {statistics.median(ratios):.2f} "
            f"| {low:.2f} to {high:.2f} | {f['handshakes']:,.0f} | {f['errors']:.0f} | {f['software']:,.0f} | {f['left']:.0f} | {f['timeouts']:,.0f} "
            f"| {f['waited']:.0f} % |",
            flush=True,
        )


def make_key(args, folder):
    kind = ["rsa:2048"] if args.rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words = ["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*words, "-days", "9", "-subj", "/CN=test.example", "-addext", "subjectAltName=DNS:test.example"], check=True, capture_output=True)


def middle(figures):
    return {key: statistics.median(f[key] for f in figures) for key in figures[0]}


def main():
    here = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--latencies", default="1,5,100", help="milliseconds of an operation, separated by commas")
    parser.add_argument("--planes", default="kernel,dpdk")
    parser.add_argument("--ways", default="", help="only those whose name has this in it")
    parser.add_argument("--card", default="", help="another part: a card of 2,000 operations a second at this latency in ms, by every way")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rsa", action="store_true")
    parser.add_argument("--pairs", type=int, default=12, help="of windows, with --loss")
    parser.add_argument("--loss", action="store_true", help="a card that goes and comes back, in place of the table")
    parser.add_argument("--bin", type=pathlib.Path, default=here / "target/release")
    args = parser.parse_args()
    # Who looks must have time to look, beside two loops that never rest; on the clients' core.
    put_first("self")
    atexit.register(put_first, "self", 0)
    os.sched_setaffinity(0, {1})
    planes = args.planes.split(",")
    cards = [({"latency_us": int(float(ms) * 1000), "slots": CLIENTS}, f"{ms} ms") for ms in args.latencies.split(",") if ms]
    if args.card:
        slots = round(2000 * float(args.card) / 1000)
        cards.append(({"latency_us": int(float(args.card) * 1000), "slots": slots}, f"2,000/s, {args.card} ms"))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_key(args, folder)
        if args.loss:
            return loss(args, folder)
        print("| card | plane | way | handshakes/s | of synchronous | in flight | p50, ms | p99, ms | worker, us each | waited | errors |")
        print("|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
        for card, title in cards:
            for plane in planes:
                base = None
                for way_name, way in WAYS.items():
                    is_base = way_name.endswith("synchronous")
                    if not is_base and args.ways not in way_name:
                        continue
                    # All clients are served within one round trip of each other, once in 256 operations: it takes long to see a rate.
                    seconds = args.seconds * (4 if is_base else 1)
                    f = middle([measure(args, folder, plane, way, card, seconds) for _ in range(args.rounds)])
                    base = f["handshakes"] if is_base else base
                    # Synchronous, a slow card may not serve one client to the end in the time.
                    ratio = f"{f['handshakes'] / base:.1f}" if base else "-"
                    print(
                        f"| {title} | {plane} | {way_name} | {f['handshakes']:,.0f} | {ratio} | {f['in_flight']:.0f} "
                        f"| {f['p50']:.1f} | {f['p99']:.1f} | {f['cpu_us']:.0f} | {f['waited']:.0f} % | {f['errors']:.0f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
