"""A gRPC server for the tests: messages are bytes, each kind of call has a method.

Usage: server.py PORT [sick]

Its health service says that it serves, or with `sick` that it does not; it knows itself and test.All.
"""

import sys
import threading
import time
from concurrent import futures

import grpc

cancelled = threading.Semaphore(0)


def unary(request, context):
    if request == b"fail":
        context.set_trailing_metadata((("x-why", "asked"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "there is no such thing: 100 %")
    if request == b"slow":
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait(20)
        cancelled.release()
    context.send_initial_metadata((("x-begin", "1"),))
    context.set_trailing_metadata((("x-end", "2"), ("x-end-bin", b"\0\xff")))
    return request


def collect(requests, context):
    return b",".join(requests)


def spread(request, context):
    for number in range(int(request)):
        yield b"%d:" % number + b"x" * 1000


def echo(requests, context):
    for request in requests:
        yield request


def endless(request, context):
    context.add_callback(cancelled.release)
    while context.is_active():
        yield b"more"
        time.sleep(0.01)


def wait_cancelled(request, context):
    return b"yes" if cancelled.acquire(timeout=10) else b"no"


def health(request, context):
    # HealthCheckRequest { string service = 1 } and HealthCheckResponse { ServingStatus status = 1 }.
    if request not in (b"", b"\x0a\x08test.All"):
        context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
    return b"\x08\x02" if "sick" in sys.argv else b"\x08\x01"


HEALTH = {"Check": grpc.unary_unary_rpc_method_handler(health)}

METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Spread": grpc.unary_stream_rpc_method_handler(spread),
    "Echo": grpc.stream_stream_rpc_method_handler(echo),
    "Endless": grpc.unary_stream_rpc_method_handler(endless),
    "Cancelled": grpc.unary_unary_rpc_method_handler(wait_cancelled),
}


def main():
    options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=options)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.All", METHODS),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", HEALTH),))
    if server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}") == 0:
        sys.exit("the port is taken")
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


main()
