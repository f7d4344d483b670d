//! Every case, and the verdict that Telltale owes it.
//!
//! In: nothing. Out: [`all`], in the order in which they are run.

use Owed::{Attributed, Declared, Opener, Seen};
use Reach::{Fixed, Other4, Other6, V4, V6};

/// What Telltale owes, from the least to the most. Saying nothing is never enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owed {
    /// The documentation names the gap.
    Declared,
    /// It is reported; who did it need not be.
    Seen,
    /// It is reported with the process that opened the socket.
    Opener,
    /// It is reported with the process that did it.
    Attributed,
}

impl Owed {
    /// In the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Declared => "DECLARED",
            Seen => "SEEN",
            Opener => "OPENER",
            Attributed => "ATTR",
        }
    }
}

/// An address that packets of the case must reach, or the case shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The case's IPv4 address.
    V4,
    /// The case's IPv6 address.
    V6,
    /// Its other IPv4 address.
    Other4,
    /// Its other IPv6 address.
    Other6,
    /// An address of no case; given to the act as its IPv4 address.
    Fixed(&'static str),
}

/// How a case is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The act does it all.
    Alone,
    /// When it is ready, the peer connects to it from these addresses, at this port.
    Called(u16),
    /// It starts before the monitor does, and goes on when that runs.
    Older,
    /// The same, and then the peer connects to it.
    OlderCalled(u16),
    /// No act: the peer sends an echo request, which the kernel answers.
    Pinged,
    /// A rule of the host's packet filter sends it elsewhere.
    Translated,
    /// A tunnel device of the host carries it.
    Tunnelled,
    /// The peer announces its other address to MPTCP.
    Announced,
}

/// What an event about the case must say as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Also {
    /// A field of an event about the destination.
    Field(&'static str, &'static str),
    /// An event with this `event.action` names the doer.
    Action(&'static str),
    /// The client behind the proxy is named.
    Via,
    /// As many bytes each way as the application and the peer counted.
    Bytes,
    /// The same, and what Multipath TCP may have sent again: at most an eighth more.
    BytesAndRepeats,
    /// As many connections to each destination as packets got there.
    Count,
    /// The doer's executable is the file that it really is.
    Inode,
    /// The packets inside the tunnel are attributed.
    Inner,
}

/// A way out of the host.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Unique.
    pub name: &'static str,
    /// What `evade` is told to do; mostly the name.
    pub act: &'static str,
    /// In words.
    pub what: &'static str,
    /// The verdict owed.
    pub owed: Owed,
    /// Where packets must arrive.
    pub reach: &'static [Reach],
    /// How it is played.
    pub how: How,
    /// Further arguments of the act; `{other}` is the path of the other network namespace.
    pub args: &'static [&'static str],
    /// What else is checked.
    pub also: &'static [Also],
    /// The alert that is owed when an AI tool does it.
    pub alert: Option<&'static str>,
    /// The word in docs/coverage.md that declares the gap.
    pub declared: Option<&'static str>,
    /// The kernel program that settles it: a kernel without is owed that gap, named in metrics.
    pub needs: Option<&'static str>,
}

const fn case(name: &'static str, what: &'static str, owed: Owed, reach: &'static [Reach]) -> Case {
    Case {
        name,
        act: name,
        what,
        owed,
        reach,
        how: How::Alone,
        args: &[],
        also: &[],
        alert: None,
        declared: None,
        needs: None,
    }
}

const fn attributed(name: &'static str, what: &'static str, reach: &'static [Reach]) -> Case {
    case(name, what, Attributed, reach)
}

impl Case {
    const fn how(mut self, how: How) -> Case {
        self.how = how;
        self
    }

    const fn act(mut self, act: &'static str) -> Case {
        self.act = act;
        self
    }

    const fn args(mut self, args: &'static [&'static str]) -> Case {
        self.args = args;
        self
    }

    const fn also(mut self, also: &'static [Also]) -> Case {
        self.also = also;
        self
    }

    const fn alert(mut self, rule: &'static str) -> Case {
        self.alert = Some(rule);
        self
    }

    const fn needs(mut self, program: &'static str) -> Case {
        self.needs = Some(program);
        self
    }

    const fn declared(mut self, word: &'static str) -> Case {
        self.declared = Some(word);
        self
    }
}

const REDIRECTED: &[Also] = &[Also::Action("connection-redirected")];
const BYTES: &[Also] = &[Also::Bytes];

/// See [`Case`].
const ROADS: &[Case] = &[
    // TCP.
    attributed("tcp4", "TCP over IPv4", &[V4]),
    attributed("tcp6", "TCP over IPv6", &[V6]),
    attributed(
        "tcp-mapped",
        "TCP from an IPv6 socket to ::ffff:a.b.c.d",
        &[V4],
    ),
    attributed("tcp-no-wait", "TCP, not waiting for the answer", &[V4]),
    attributed(
        "tcp-again",
        "TCP, one socket connected twice",
        &[V4, Other4],
    ),
    attributed("tcp-repair", "TCP without a handshake (TCP_REPAIR)", &[V4]),
    attributed("tcp-bound-device", "TCP on a named device", &[V4]),
    attributed(
        "tcp-same-port",
        "TCP, the same five-tuple by two processes",
        &[V4],
    ),
    attributed(
        "tfo4-sendto",
        "TCP Fast Open by sendto(MSG_FASTOPEN)",
        &[V4],
    ),
    attributed("tfo6-sendto", "TCP Fast Open over IPv6", &[V6]),
    attributed("tfo-sendmsg", "TCP Fast Open by sendmsg", &[V4]),
    attributed(
        "tfo-connect",
        "TCP Fast Open by TCP_FASTOPEN_CONNECT",
        &[V4],
    ),
    attributed("mptcp4", "Multipath TCP", &[V4]),
    attributed("mptcp6", "Multipath TCP over IPv6", &[V6]),
    attributed("mptcp-tfo", "Multipath TCP with Fast Open", &[V4]),
    case(
        "mptcp-join",
        "Multipath TCP: the kernel opens a second way, to an announced address",
        Opener,
        &[V4, Other4],
    )
    .how(How::Announced),
    attributed("smc", "AF_SMC falling back to TCP", &[V4]),
    attributed("tcp-source-route", "TCP with a source route", &[Other4])
        .also(REDIRECTED)
        .alert("dst-mismatch"),
    // UDP.
    attributed("udp-sendto", "UDP by sendto", &[V4]),
    attributed("udp6-sendto", "UDP by sendto over IPv6", &[V6]),
    attributed("udp-sendmsg", "UDP by sendmsg", &[V4]),
    attributed("udp6-sendmsg", "UDP by sendmsg over IPv6", &[V6]),
    attributed(
        "udp-sendmmsg",
        "UDP by sendmmsg, to two addresses",
        &[V4, Other4],
    ),
    attributed("udp-connected", "UDP, connected", &[V4]),
    attributed("udp6-connected", "UDP, connected, over IPv6", &[V6]),
    attributed(
        "udp-elsewhere",
        "UDP, connected, then sendto elsewhere",
        &[V4, Other4],
    ),
    attributed(
        "udp-again",
        "UDP, one socket connected twice",
        &[V4, Other4],
    ),
    attributed(
        "udp-mapped",
        "UDP from an IPv6 socket to ::ffff:a.b.c.d",
        &[V4],
    ),
    attributed("udp-mapped-connected", "the same, connected", &[V4]),
    attributed(
        "udp-v4-on-v6",
        "UDP, IPv4 address structure on an IPv6 socket",
        &[V4],
    ),
    attributed("udp-unspec", "UDP, address of family AF_UNSPEC", &[V4]),
    attributed(
        "udp6-unspec",
        "UDP, connected IPv6 socket, then AF_UNSPEC",
        &[V6],
    ),
    attributed("udp-gso", "UDP in segments (UDP_SEGMENT)", &[V4]),
    attributed("udp-empty", "UDP without payload", &[V4]),
    attributed("udp-more", "UDP in pieces (MSG_MORE)", &[V4]),
    attributed("udp-broadcast", "UDP broadcast", &[Fixed("203.0.113.255")]),
    attributed("udp-multicast", "UDP multicast", &[Fixed("239.1.2.3")]).act("udp-sendto"),
    attributed("udp-lite", "UDP-Lite", &[V4]),
    attributed("udp-source-route", "UDP with a source route", &[Other4])
        .also(REDIRECTED)
        .alert("dst-mismatch"),
    attributed(
        "udp6-routing-header",
        "UDP with a segment routing header",
        &[Other6],
    )
    .also(REDIRECTED),
    // Other transports.
    attributed("sctp-connect", "SCTP by connect", &[V4]),
    attributed("sctp6-connect", "SCTP over IPv6", &[V6]),
    attributed(
        "sctp-sendto",
        "SCTP by sendto, two associations",
        &[V4, Other4],
    ),
    attributed("dccp-connect", "DCCP", &[V4]),
    // io_uring.
    attributed("uring-connect", "io_uring CONNECT", &[V4]),
    attributed(
        "uring-connect-async",
        "io_uring CONNECT by a worker thread",
        &[V4],
    ),
    attributed(
        "uring-connect-sqpoll",
        "io_uring CONNECT by the polling thread",
        &[V4],
    ),
    attributed("uring-sendmsg", "io_uring SENDMSG", &[V4]),
    attributed(
        "uring-sendmsg-async",
        "io_uring SENDMSG by a worker thread",
        &[V4],
    ),
    attributed(
        "uring-sendmsg-sqpoll",
        "io_uring SENDMSG by the polling thread",
        &[V4],
    ),
    attributed(
        "uring-send-address",
        "io_uring SEND_ZC with an address",
        &[V4],
    ),
    attributed("uring-socket", "io_uring SOCKET", &[V4]),
    attributed("uring-fixed", "io_uring socket without a descriptor", &[V4]),
    // Raw and ping sockets.
    attributed("raw4-unknown-protocol", "raw socket, protocol 253", &[V4]).alert("raw-socket"),
    attributed("raw6-unknown-protocol", "raw socket over IPv6", &[V6]),
    attributed("raw4-sendmsg", "raw socket by sendmsg", &[V4]),
    attributed("raw4-connected", "raw socket, connected", &[V4]),
    attributed("raw4-two-remotes", "raw socket, two remotes", &[V4, Other4]),
    attributed("raw4-icmp-tunnel", "data in ICMP echo requests", &[V4]).alert("raw-socket"),
    attributed("raw4-udp", "UDP made by hand", &[V4]),
    attributed("raw4-tcp-syn", "TCP SYN made by hand", &[V4]),
    attributed("raw4-header-included", "IP header made by hand", &[V4]),
    attributed(
        "raw4-header-lies",
        "IP header to another address than the call",
        &[V4],
    ),
    attributed("raw6-header-included", "IPv6 header made by hand", &[V6]),
    attributed("ping4", "ping socket", &[V4]),
    attributed("ping6", "ping socket over IPv6", &[V6]),
    attributed(
        "ping4-connected",
        "ping socket, connected with a port",
        &[V4],
    ),
    // Below IP.
    case("packet", "packet socket", Seen, &[V4]).alert("packet-socket"),
    case("packet-brief", "packet socket, closed at once", Seen, &[V4])
        .alert("packet-socket")
        .declared("packet socket"),
    case("packet-bypass", "packet socket past the queue", Seen, &[V4]).alert("packet-socket"),
    case(
        "packet-bypass-brief",
        "the same, closed at once",
        Seen,
        &[V4],
    )
    .alert("packet-socket")
    .declared("packet socket"),
    case(
        "packet-datagram",
        "packet socket without Ethernet header",
        Seen,
        &[V4],
    ),
    case("xdp", "AF_XDP", Seen, &[V4]).alert("packet-socket"),
    case("tun", "packets of a TUN device, forwarded", Seen, &[V4])
        .alert("packet-socket")
        .needs("file_iter"),
    case(
        "vsock",
        "AF_VSOCK to the hypervisor (opened only)",
        Seen,
        &[],
    )
    .alert("vsock-socket")
    .declared("vsock"),
    case(
        "tunnelled",
        "VXLAN tunnel: the outer packets",
        Declared,
        &[V4],
    )
    .how(How::Tunnelled)
    .act("udp-sendto")
    .also(&[Also::Inner])
    .declared("tunnel"),
    case("pinged", "the kernel answers an echo request", Seen, &[V4]).how(How::Pinged),
    // Bytes.
    attributed("bytes-none", "bytes: none at all", &[V4]).also(BYTES),
    attributed("bytes-one", "bytes: one", &[V4]).also(BYTES),
    attributed("bytes-write", "bytes of write", &[V4]).also(BYTES),
    attributed("bytes-sendfile", "bytes of sendfile", &[V4]).also(BYTES),
    attributed("bytes-splice", "bytes of splice", &[V4]).also(BYTES),
    attributed("bytes-uring", "bytes of io_uring", &[V4]).also(BYTES),
    attributed("bytes-zerocopy", "bytes of MSG_ZEROCOPY", &[V4]).also(BYTES),
    attributed("bytes-fast-open", "bytes of TCP Fast Open", &[V4]).also(BYTES),
    attributed("bytes-mptcp", "bytes of Multipath TCP", &[V4]).also(&[Also::BytesAndRepeats]),
    attributed("bytes-udp-connected", "bytes of connected UDP", &[V4]).also(BYTES),
    attributed("bytes-udp-gso", "bytes of segmented UDP", &[V4]).also(BYTES),
    attributed("bytes-udp-sendto", "bytes of UDP by sendto", &[V4]),
];

/// More of them, about processes and places.
const TRAVELLERS: &[Case] = &[
    attributed("int80", "connect by the 32-bit interface", &[V4]),
    attributed("fork", "a child that executes nothing", &[V4]),
    attributed("spawn", "a child", &[V4]),
    attributed("vfork", "a child on borrowed memory", &[V4]),
    attributed("daemon", "twice forked, reparented, own session", &[V4]),
    attributed("thread", "a thread named kworker/0:1", &[V4]),
    attributed("thread-executes", "a thread executes a program", &[V4]),
    attributed("leader-exits", "the first thread ends long before", &[V4]).args(&["12"]),
    attributed("exec-chain", "ten programs in one process", &[V4]).args(&["10"]),
    attributed(
        "exec-after",
        "connects, then becomes another program",
        &[V4, Other4],
    ),
    attributed("setuid", "gives up root first", &[V4]),
    attributed("pid-reuse", "two programs of one pid", &[V4, Other4]),
    attributed("killed", "connects and is killed at once", &[V4]),
    // Names.
    attributed("copied", "copied, and named claude", &[V4]),
    attributed("renamed", "renamed", &[V4]),
    attributed("hard-linked", "hard link", &[V4]),
    attributed("symlinked", "symbolic link", &[V4]),
    attributed("script", "interpreter of a script", &[V4]),
    attributed("memfd", "program without a file (memfd)", &[V4])
        .also(&[Also::Field("telltale.process.file.links", "0")])
        .alert("fileless-exec"),
    attributed("deleted", "deleted before it is executed", &[V4])
        .also(&[Also::Field("telltale.process.file.links", "0")])
        .alert("fileless-exec"),
    attributed("deleted-while-running", "deletes itself", &[V4]),
    attributed("replaced-while-running", "replaces itself", &[V4]),
    attributed("chrooted", "in a chroot", &[V4]),
    attributed("bind-mounted", "mounted over /bin/sh", &[V4]).also(&[Also::Inode]),
    attributed("proc-hidden", "another folder over its own in /proc", &[V4]),
    attributed("deep-path", "a path of more than 60 folders", &[V4]),
    attributed("thread-named-claude", "thread named claude", &[V4]),
    attributed("argv-says-claude", "argv says that it is claude", &[V4]),
    attributed("argv-overwritten", "argv overwritten", &[V4]),
    attributed(
        "hostile-names",
        "names with line ends, escapes, quotes",
        &[V4],
    ),
    attributed("long-arguments", "64 KiB of arguments", &[V4]),
    // Hands.
    case(
        "passed-connected",
        "connected by one, passed to another",
        Opener,
        &[V4],
    ),
    case(
        "passed-connected-datagram",
        "the same with UDP",
        Opener,
        &[V4],
    ),
    attributed(
        "passed-unconnected",
        "UDP socket passed, then sendto",
        &[V4],
    ),
    case("passed-raw", "raw socket passed", Opener, &[V4]),
    case(
        "pidfd-stolen",
        "socket taken out of another process",
        Opener,
        &[V4],
    ),
    case(
        "inherited",
        "connected by a parent that is gone",
        Opener,
        &[V4],
    ),
    case(
        "inherited-after-exec",
        "the same, in another program",
        Opener,
        &[V4],
    ),
    attributed("accepted", "a server that answers", &[V4]).how(How::Called(31_020)),
    attributed(
        "accepted-twice",
        "a server that answers two clients",
        &[V4, Other4],
    )
    .how(How::Called(31_020)),
    attributed(
        "accepted-after-connect",
        "a client's socket becomes a server's",
        &[V4, Other4],
    )
    .how(How::Called(31_020)),
    attributed("proxied", "through a proxy on loopback", &[V4]).also(&[Also::Via]),
    attributed("proxied-twice", "two clients of one proxy", &[V4, Other4]).also(&[Also::Via]),
    attributed("proxied-unix", "through a proxy on a Unix socket", &[V4]),
    // Places.
    attributed("setns", "in another network namespace", &[V4]).args(&["{other}"]),
    attributed("setns-udp", "the same with UDP", &[V4]).args(&["{other}"]),
    attributed(
        "socket-of-other-netns",
        "socket of another namespace",
        &[V4],
    )
    .args(&["{other}"]),
    attributed("user-namespace", "in a user namespace", &[V4]),
    attributed("pid-namespace", "in a pid namespace", &[V4]),
    attributed("time-namespace", "in a time namespace", &[V4]),
    attributed("cgroup-then-connect", "in a cgroup of its own", &[V4]),
    attributed(
        "socket-then-cgroup",
        "changes its cgroup with a socket open",
        &[V4],
    ),
    attributed("cgroup-namespace", "in a cgroup namespace", &[V4]),
    attributed(
        "translated",
        "address translated by the packet filter",
        &[Other4],
    )
    .how(How::Translated)
    .act("tcp4")
    .also(REDIRECTED)
    .alert("dst-mismatch"),
    attributed(
        "rewritten-at-root",
        "address rewritten by a later program",
        &[Other4],
    )
    .also(REDIRECTED)
    .alert("dst-mismatch"),
    attributed(
        "rewritten-below",
        "address rewritten by an earlier program",
        &[Other4],
    ),
    attributed("race", "another thread changes the address", &[V4, Other4])
        .args(&["2000"])
        .also(&[Also::Count]),
    attributed("burst", "2 000 children that connect and end", &[V4]).args(&["2000"]),
    attributed("burst-exec", "500 programs that connect and end", &[V4]).args(&["500"]),
    // Older than the monitor.
    case(
        "older-tcp",
        "TCP connection older than the monitor",
        Opener,
        &[V4],
    )
    .how(How::Older)
    .needs("file_iter"),
    case("older-udp-connected", "connected UDP older", Opener, &[V4])
        .how(How::Older)
        .needs("file_iter"),
    attributed("older-udp", "UDP socket older", &[V4]).how(How::Older),
    case("older-raw", "raw socket older", Opener, &[V4])
        .how(How::Older)
        .needs("file_iter"),
    case("older-listener", "listening socket older", Opener, &[V4])
        .how(How::OlderCalled(31_030))
        .needs("file_iter"),
    attributed("older-process", "process older", &[V4]).how(How::Older),
    case("older-packet", "packet socket older", Seen, &[])
        .how(How::Older)
        .needs("file_iter"),
];

/// Every case, in the order in which they are played, with the number that is in its addresses.
pub fn all() -> impl Iterator<Item = (usize, &'static Case)> {
    ROADS.iter().chain(TRAVELLERS).enumerate()
}
