"""VLAN devices for a kernel that has none: TAPs whose frames pass a link with a tag. Usage: tagger.py LINK ID:TAP..."""

import fcntl
import os
import select
import socket
import struct
import sys

PACKET, AUXDATA, IGNORE_OUTGOING, HAS_TAG = 263, 8, 23, 1 << 4
SET_INTERFACE, TAP, BARE = 0x400454CA, 2, 0x1000


def open_tap(name):
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, SET_INTERFACE, struct.pack("16sH22x", name.encode(), TAP | BARE))
    return tap


def tag_of(ancillary):
    """The kernel takes tags off before a packet socket sees them, and tells what they were."""
    for level, kind, data in ancillary:
        if (level, kind) == (PACKET, AUXDATA):
            status, _, _, _, _, tag, _ = struct.unpack("IIIHHHH", data[:20])
            return tag & 0xFFF if status & HAS_TAG else None
    return None


def main(link, *lanes):
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.setsockopt(PACKET, AUXDATA, 1)
    wire.setsockopt(PACKET, IGNORE_OUTGOING, 1)
    wire.bind((link, 0))
    taps = {int(number): open_tap(name) for number, name in (lane.split(":") for lane in lanes)}
    numbers = {tap: number for number, tap in taps.items()}
    while True:
        for ready in select.select([wire, *numbers], [], [])[0]:
            try:
                if ready is wire:
                    frame, ancillary, _, _ = wire.recvmsg(65536, 256)
                    tap = taps.get(tag_of(ancillary))
                    if tap is not None:
                        os.write(tap, frame)
                else:
                    frame = os.read(ready, 65536)
                    wire.send(frame[:12] + struct.pack("!HH", 0x8100, numbers[ready]) + frame[12:])
            except OSError:
                pass  # the device is down, or its queue is full


main(*sys.argv[1:])
