"""A gRPC client for the tests. Says `ok NAME` for each row that holds.

Usage: client.py HOST:PORT ROW...
"""

import queue
import sys
import time

import grpc


def connect(target):
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    channel = grpc.insecure_channel(target, options=options)
    grpc.channel_ready_future(channel).result(timeout=10)
    return channel


def status(call):
    try:
        result = call()
        for _ in result if hasattr(result, "__next__") else ():
            pass
    except grpc.RpcError as error:
        return error
    raise AssertionError("an error was expected")


def unary(channel):
    call = channel.unary_unary("/test.All/Unary")
    for number in range(50):
        assert call(b"%d" % number, timeout=10) == b"%d" % number
    for size in (0, 1, 16384, 65536, 1000000):
        assert call(b"y" * size, timeout=10) == b"y" * size, size
    answer, rpc = call.with_call(b"meta", timeout=10, metadata=(("x-asked", "this"), ("x-asked-bin", b"\1\2")))
    assert ("x-begin", "1") in [(k, v) for k, v in rpc.initial_metadata()]
    trailing = [(k, v) for k, v in rpc.trailing_metadata()]
    assert ("x-end", "2") in trailing and ("x-end-bin", b"\0\xff") in trailing, trailing


def at_once(channel):
    call = channel.unary_unary("/test.All/Unary")
    calls = [call.future(b"%d" % number, timeout=20) for number in range(300)]
    for number, future in enumerate(calls):
        assert future.result() == b"%d" % number


def failure(channel):
    error = status(lambda: channel.unary_unary("/test.All/Unary")(b"fail", timeout=10))
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
    assert error.details() == "there is no such thing: 100 %", error.details()
    assert ("x-why", "asked") in [(k, v) for k, v in error.trailing_metadata()]
    error = status(lambda: channel.unary_unary("/test.All/None")(b"", timeout=10))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def client_stream(channel):
    call = channel.stream_unary("/test.All/Collect")
    assert call(iter([b"a", b"b", b"c"]), timeout=10) == b"a,b,c"
    assert call(iter([]), timeout=10) == b""
    pieces = [b"z" * 10000] * 200
    assert len(call(iter(pieces), timeout=20)) == 200 * 10000 + 199


def server_stream(channel):
    call = channel.unary_stream("/test.All/Spread")
    got = list(call(b"2000", timeout=20))
    assert len(got) == 2000 and got[1999].startswith(b"1999:")
    assert list(call(b"0", timeout=10)) == []


def both_streams(channel):
    """Each message is answered before the next is sent: nothing on the way may wait for more."""
    asked = queue.Queue()
    answers = channel.stream_stream("/test.All/Echo")(iter(asked.get, None), timeout=20)
    for number in range(100):
        asked.put(b"%d" % number)
        assert next(answers) == b"%d" % number
    asked.put(None)
    assert list(answers) == []
    pieces = [b"w" * 20000] * 100
    assert list(channel.stream_stream("/test.All/Echo")(iter(pieces), timeout=20)) == pieces


def deadline(channel):
    begun = time.monotonic()
    error = status(lambda: channel.unary_unary("/test.All/Unary")(b"slow", timeout=0.3))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert time.monotonic() - begun < 5
    assert channel.unary_unary("/test.All/Cancelled")(b"", timeout=15) == b"yes"


def cancel(channel):
    answers = channel.unary_stream("/test.All/Endless")(b"", timeout=20)
    assert next(answers) == b"more"
    answers.cancel()
    assert channel.unary_unary("/test.All/Cancelled")(b"", timeout=15) == b"yes"


def no_route(channel):
    error = status(lambda: channel.unary_unary("/nowhere/Unary")(b"", timeout=10))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, "404 Not Found"), error


def no_origin(channel):
    for call in (
        lambda: channel.unary_unary("/dead/Unary")(b"", timeout=10),
        lambda: channel.stream_stream("/dead/Echo")(iter([b"a"]), timeout=10),
    ):
        error = status(call)
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "502 Bad Gateway"), error


def main():
    channel = connect(sys.argv[1])
    for row in sys.argv[2:]:
        globals()[row](channel)
        print("ok", row, flush=True)
    channel.close()


main()
