"""The world outside of a limited container: servers of all kinds, and an eye on every packet that arrives.

Prints a line for each packet, as "packet PROTOCOL ADDRESS PORT", and for each request of HTTP, as "request ADDRESS HOST PATH".
"""

import os
import socket
import struct
import sys
import threading

ADDRESSES = ["203.0.113.10", "203.0.113.20", "203.0.113.66", "2001:db8:66::10", "2001:db8:66::66"]
PORTS = [22, 25, 80, 443, 853, 5000, 8080]


def say(*words):
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


def http(address, connection, begun):
    """Answers requests, and reads them as generously as the worst servers do."""
    data = begun
    while True:
        while b"\n\r\n" not in data and b"\n\n" not in data:
            more = connection.recv(65536)
            if not more:
                return
            data += more
        ends = [data.index(end) + len(end) for end in (b"\n\r\n", b"\n\n") if end in data]
        head, data = data[: min(ends)], data[min(ends) :]
        lines = head.decode("latin-1").split("\n")
        fields = dict(line.lower().strip().split(":", 1) for line in lines[1:] if ":" in line)
        words = lines[0].split() + ["?", "?"]
        say("request", address, fields.get("host", "-").strip(), words[1])
        body = int(fields.get("content-length", "0").strip() or 0)
        while len(data) < body:
            data += connection.recv(65536) or b"\0" * body
        data = data[body:]
        answer = "hello from %s" % address
        connection.sendall(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)).encode())


def serve(address, port, connection):
    try:
        connection.settimeout(20)
        if port == 22:
            connection.sendall(b"SSH-2.0-outside\r\n")
        begun = connection.recv(65536)
        if begun[:1] == b"\x16":
            say("hello", address, port)
            connection.sendall(b"TLS from %s" % address.encode())
            while connection.recv(65536):
                pass
        elif port in (80, 8080):
            http(address, connection, begun)
        else:
            connection.sendall(b"reached " + begun)
    except (OSError, ValueError, IndexError):
        pass
    finally:
        connection.close()


def listen(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind((address, port))
    door.listen(100)
    while True:
        connection, _ = door.accept()
        threading.Thread(target=serve, args=(address, port, connection), daemon=True).start()


def echo(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    door = socket.socket(family, socket.SOCK_DGRAM)
    door.bind((address, port))
    while True:
        data, peer = door.recvfrom(65536)
        door.sendto(b"reached " + data, peer)


for address in ADDRESSES:
    for port in PORTS:
        threading.Thread(target=listen, args=(address, port), daemon=True).start()
    for port in (53, 443, 5000):
        threading.Thread(target=echo, args=(address, port), daemon=True).start()

eye = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
say("ready")
while True:
    packet, (_, kind, direction, *_) = eye.recvfrom(65536)
    if direction == socket.PACKET_OUTGOING:
        continue
    if kind == 0x0800:
        start = (packet[0] & 15) * 4
        protocol, to = packet[9], socket.inet_ntop(socket.AF_INET, packet[16:20])
    elif kind == 0x86DD:
        start, protocol, to = 40, packet[6], socket.inet_ntop(socket.AF_INET6, packet[24:40])
    else:
        continue
    port = struct.unpack("!H", packet[start + 2 : start + 4])[0] if protocol in (6, 17, 132) else "-"
    say("packet", protocol, to, port)
