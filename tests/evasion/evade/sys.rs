//! What only the C library can ask of the kernel, each in a safe wrapper.
//!
//! In: descriptors, addresses, bytes. Out: results of system calls, as [`io::Result`].
//! `std` would do some of it, but an evasion needs the odd flag, family or length that it hides.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// How an act ends; the text is for whoever reads the suite's output.
pub type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// An act cannot be done on this kernel: says so to the runner and ends the process well.
pub fn unsupported(why: &str) -> ! {
    say(&format!("unsupported {why}"));
    std::process::exit(0)
}

/// Whether the kernel knows no such thing, as opposed to a mistake of the act.
pub fn is_unsupported(error: &io::Error) -> bool {
    let missing = [
        libc::EPROTONOSUPPORT,
        libc::EAFNOSUPPORT,
        libc::ESOCKTNOSUPPORT,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::ENOSYS,
        libc::ENODEV,
        libc::ENOENT,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| missing.contains(&code))
}

/// The value, or [`unsupported`] if the kernel knows no such thing.
pub fn supported<T>(what: &str, result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if is_unsupported(&error) => unsupported(&format!("{what}: {error}")),
        other => other,
    }
}

/// One line to the runner, in one write, so that it works in a forked child as well.
pub fn say(line: &str) {
    let text = format!("{line}\n");
    // SAFETY: the buffer has that many bytes.
    let _ = unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
}

/// Turns the C library's -1 into an error.
pub fn check<T: PartialOrd + Default>(result: T) -> io::Result<T> {
    if result < T::default() {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A socket address of any family.
#[derive(Clone, Copy)]
pub struct Address {
    /// As the kernel reads it.
    pub bytes: [u8; 128],
    /// How much of it is valid.
    pub length: u32,
}

impl Address {
    /// An Internet address.
    pub fn new(address: SocketAddr) -> Address {
        let mut bytes = [0; 128];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let length = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                16
            }
            SocketAddr::V6(v6) => {
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                28
            }
        };
        let family = match address {
            SocketAddr::V4(_) => libc::AF_INET,
            SocketAddr::V6(_) => libc::AF_INET6,
        };
        Address { bytes, length }.with_family(family)
    }

    /// Bytes of a `sockaddr` of the C library, or of another family's.
    pub fn raw(family: c_int, rest: &[u8]) -> Address {
        let mut bytes = [0; 128];
        bytes[2..2 + rest.len()].copy_from_slice(rest);
        let length = u32::try_from(rest.len() + 2).unwrap_or_default();
        Address { bytes, length }.with_family(family)
    }

    /// The same with another family.
    pub fn with_family(mut self, family: c_int) -> Address {
        let family = u16::try_from(family).unwrap_or_default();
        self.bytes[..2].copy_from_slice(&family.to_ne_bytes());
        self
    }

    /// For the C library.
    pub fn pointer(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }
}

/// `socket(2)`.
pub fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    owned(check(fd)?)
}

/// `socket(2)` in the address's family.
pub fn socket_for(address: SocketAddr, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    socket(family, kind, protocol)
}

/// Takes ownership of a descriptor that the kernel has just made.
pub fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the kernel has just handed it out, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor that somebody else keeps open for the whole life of the process.
pub fn inherited(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: it is open, as its number was passed on for that purpose, and nobody closes it.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// `connect(2)`.
pub fn connect(fd: &impl AsRawFd, address: &Address) -> io::Result<()> {
    // SAFETY: the address has at least that many bytes.
    let result = unsafe { libc::connect(fd.as_raw_fd(), address.pointer(), address.length) };
    check(result).map(drop)
}

/// `bind(2)`.
pub fn bind(fd: &impl AsRawFd, address: &Address) -> io::Result<()> {
    // SAFETY: the address has at least that many bytes.
    let result = unsafe { libc::bind(fd.as_raw_fd(), address.pointer(), address.length) };
    check(result).map(drop)
}

/// `listen(2)`.
pub fn listen(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::listen(fd.as_raw_fd(), 128) }).map(drop)
}

/// `accept(2)`.
pub fn accept(fd: &impl AsRawFd) -> io::Result<OwnedFd> {
    let (none, none_length) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: null asks for no address.
    owned(unsafe { libc::accept(fd.as_raw_fd(), none, none_length) })
}

/// `sendto(2)`; without an address, `send(2)`.
pub fn send_to(
    fd: &impl AsRawFd,
    bytes: &[u8],
    flags: c_int,
    address: Option<&Address>,
) -> io::Result<usize> {
    let (pointer, length) = match address {
        Some(address) => (address.pointer(), address.length),
        None => (std::ptr::null(), 0),
    };
    // SAFETY: bytes and address have the lengths that are passed.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            flags,
            pointer,
            length,
        )
    };
    Ok(check(sent)?.unsigned_abs())
}

/// `send(2)`.
pub fn send(fd: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    send_to(fd, bytes, libc::MSG_NOSIGNAL, None)
}

/// `recv(2)`.
pub fn receive(fd: &impl AsRawFd, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer has that many bytes.
    let got = unsafe { libc::recv(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    Ok(check(got)?.unsigned_abs())
}

/// Reads to the end; returns how much there was.
pub fn receive_all(fd: &impl AsRawFd) -> io::Result<usize> {
    let mut buffer = vec![0; 65_536];
    let mut all = 0;
    loop {
        match receive(fd, &mut buffer)? {
            0 => return Ok(all),
            got => all += got,
        }
    }
}

/// A message of one piece, with room for what goes beside it.
pub struct Message {
    header: Box<libc::msghdr>,
    _parts: Box<(libc::iovec, Address, Vec<u8>, Vec<u64>)>,
}

impl Message {
    /// `bytes` to `address`, with one control message (level, kind, data) if wanted.
    pub fn new(
        bytes: &[u8],
        address: Option<&Address>,
        control: Option<(c_int, c_int, &[u8])>,
    ) -> Message {
        let mut parts = Box::new((
            // SAFETY: all zero is a valid `iovec`.
            unsafe { std::mem::zeroed::<libc::iovec>() },
            address.copied().unwrap_or(Address {
                bytes: [0; 128],
                length: 0,
            }),
            bytes.to_vec(),
            control.map(control_message).unwrap_or_default(),
        ));
        parts.0.iov_base = parts.2.as_mut_ptr().cast();
        parts.0.iov_len = parts.2.len();
        // SAFETY: all zero is a valid `msghdr`.
        let mut header = Box::new(unsafe { std::mem::zeroed::<libc::msghdr>() });
        if address.is_some() {
            header.msg_name = parts.1.bytes.as_mut_ptr().cast();
            header.msg_namelen = parts.1.length;
        }
        header.msg_iov = &raw mut parts.0;
        header.msg_iovlen = 1;
        if let Some((_, _, data)) = control {
            header.msg_control = parts.3.as_mut_ptr().cast();
            header.msg_controllen = control_length(data.len());
        }
        Message {
            header,
            _parts: parts,
        }
    }

    /// For the C library; valid as long as the message lives.
    pub fn pointer(&self) -> *const libc::msghdr {
        &raw const *self.header
    }

    /// `sendmsg(2)`.
    pub fn send(&self, fd: &impl AsRawFd, flags: c_int) -> io::Result<usize> {
        // SAFETY: the header points into parts that live as long.
        let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), self.pointer(), flags) };
        Ok(check(sent)?.unsigned_abs())
    }

    /// `sendmmsg(2)`.
    pub fn send_many(messages: &[Message], fd: &impl AsRawFd) -> io::Result<()> {
        let mut headers: Vec<libc::mmsghdr> = messages
            .iter()
            .map(|message| libc::mmsghdr {
                msg_hdr: *message.header,
                msg_len: 0,
            })
            .collect();
        let count = u32::try_from(headers.len()).unwrap_or_default();
        // SAFETY: there are that many headers, and their parts live as long.
        check(unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, 0) }).map(drop)
    }
}

/// Length of a `cmsghdr`.
const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>();

fn control_length(data: usize) -> usize {
    CONTROL_HEADER + data
}

/// A `cmsghdr` and its data, aligned as the kernel wants it.
fn control_message((level, kind, data): (c_int, c_int, &[u8])) -> Vec<u64> {
    let mut bytes = control_length(data.len()).to_ne_bytes().to_vec();
    bytes.extend(level.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let words = bytes.chunks_exact(8);
    words
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()))
        .collect()
}

/// `setsockopt(2)` with plain bytes.
pub fn set_option(fd: &impl AsRawFd, level: c_int, name: c_int, value: &[u8]) -> io::Result<()> {
    let length = u32::try_from(value.len()).unwrap_or_default();
    // SAFETY: the value has that many bytes.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    check(result).map(drop)
}

/// `setsockopt(2)` with a number.
pub fn set_number(fd: &impl AsRawFd, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    set_option(fd, level, name, &value.to_ne_bytes())
}

/// `fork(2)`. The child runs `act` and ends; the parent gets its pid.
pub fn fork(act: impl FnOnce() -> Outcome) -> io::Result<c_int> {
    // SAFETY: these programs have no other thread when they fork, so the child may do anything.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        finish(act());
    }
    Ok(pid)
}

/// Ends the process at once, without what `exit` runs: for forked children.
pub fn finish(outcome: Outcome) -> ! {
    let code = match outcome {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("failed {error}"));
            1
        }
    };
    // SAFETY: it does not return, and has no other effect.
    unsafe { libc::_exit(code) }
}

/// Waits for a child, which must succeed.
pub fn wait(pid: c_int) -> Outcome {
    let mut status = 0;
    // SAFETY: `status` is a place for the result.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    if status == 0 {
        Ok(())
    } else {
        Err(format!("child {pid} ended with status {status:#x}").into())
    }
}

/// `execv(3)`; returns only if it fails.
pub fn exec(path: &Path, args: &[&[u8]]) -> io::Error {
    use std::os::unix::ffi::OsStrExt;
    let strings: Vec<CString> = args
        .iter()
        .filter_map(|arg| CString::new(*arg).ok())
        .collect();
    let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return io::Error::from(io::ErrorKind::InvalidInput);
    };
    // SAFETY: strings and the array of pointers are NUL-terminated and live until the call.
    unsafe { libc::execv(path.as_ptr(), pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// This process's pid, in its own pid namespace.
pub fn pid() -> u32 {
    std::process::id()
}

/// Memory that lies where a 32-bit pointer reaches.
pub fn low_memory(bytes: &[u8]) -> io::Result<u32> {
    const PAGE: usize = 4096;
    // SAFETY: a new mapping, which touches no other memory.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let length = bytes.len().min(PAGE);
    // SAFETY: the page was mapped just now, and `length` fits into it.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), page.cast::<u8>(), length) };
    u32::try_from(page as usize).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))
}

/// A system call by its number, with up to five numbers or pointers.
///
/// # Safety
///
/// As the call says: pointers among the arguments are valid for what it does with them.
pub unsafe fn call(number: i64, args: [usize; 5]) -> io::Result<i64> {
    let [a, b, c, d, e] = args;
    // SAFETY: the caller vouches for it.
    check(unsafe { libc::syscall(number, a, b, c, d, e) })
}

/// A C pointer to plain bytes.
pub fn pointer(bytes: &[u8]) -> *const c_void {
    bytes.as_ptr().cast()
}
