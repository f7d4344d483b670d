//! AF_XDP: frames from shared memory to the device, past all of the kernel's network.
//!
//! In: a frame. Out: the frame on the device `uplink`.
//! Format: Documentation/networking/af_xdp.rst, include/uapi/linux/if_xdp.h (Linux 5.10).

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use libc::{SOCK_RAW, SOL_XDP, c_int};

use crate::sys::{self, Address, Outcome, set_number, set_option, supported};

const XDP_MMAP_OFFSETS: c_int = 1;
const XDP_TX_RING: c_int = 3;
const XDP_UMEM_REG: c_int = 4;
const XDP_UMEM_FILL_RING: c_int = 5;
const XDP_UMEM_COMPLETION_RING: c_int = 6;
const XDP_PGOFF_TX_RING: libc::off_t = 0x8000_0000;
const XDP_COPY: u16 = 1 << 1;

const FRAME: usize = 4096;
const ENTRIES: c_int = 4;
const MAP: usize = 4096;

/// Memory that is shared with the kernel; lives until the process ends.
fn map(length: usize, flags: c_int, fd: c_int, offset: libc::off_t) -> io::Result<*mut u8> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, which touches no other memory.
    let address = unsafe { libc::mmap(null_mut(), length, access, flags, fd, offset) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(address.cast())
}

/// Sends one frame, and keeps the socket for a while.
pub fn send(frame: &[u8], hold: Duration) -> Outcome {
    let fd = supported("AF_XDP", sys::socket(libc::AF_XDP, SOCK_RAW, 0))?;
    let memory = map(FRAME * 2, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
    // struct xdp_umem_reg: address, length, chunk size, headroom, flags.
    let mut registration = (memory as u64).to_ne_bytes().to_vec();
    registration.extend((FRAME as u64 * 2).to_ne_bytes());
    registration.extend(u32::try_from(FRAME).unwrap_or_default().to_ne_bytes());
    registration.extend([0; 12]);
    set_option(&fd, SOL_XDP, XDP_UMEM_REG, &registration)?;
    for ring in [XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_TX_RING] {
        set_number(&fd, SOL_XDP, ring, ENTRIES)?;
    }
    let (producer, descriptors) = transmit_ring(&fd)?;
    bind(&fd)?;
    // SAFETY: the memory has room for two frames of this size.
    unsafe { std::ptr::copy_nonoverlapping(frame.as_ptr(), memory, frame.len().min(FRAME)) };
    // struct xdp_desc: address within the memory, length, options.
    let descriptor = [0, u32::try_from(frame.len())? as u64];
    // SAFETY: the first descriptor of the ring, aligned by the kernel; the options are the upper
    // half of the second number.
    unsafe { std::ptr::copy_nonoverlapping(descriptor.as_ptr(), descriptors.cast(), 2) };
    producer.store(1, Ordering::Release);
    // Tells the kernel to look.
    sys::send_to(&fd, &[], libc::MSG_DONTWAIT, None)?;
    sleep(hold);
    Ok(())
}

/// The producer's index and the descriptors of the ring of frames to send.
fn transmit_ring(fd: &impl AsRawFd) -> io::Result<(&'static AtomicU32, *mut u8)> {
    // struct xdp_mmap_offsets: for rx, tx, fill and completion each producer, consumer, desc, flags.
    let mut offsets = [0u64; 16];
    let mut length = u32::try_from(size_of_val(&offsets)).unwrap_or_default();
    // SAFETY: there is as much room as is said.
    sys::check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            SOL_XDP,
            XDP_MMAP_OFFSETS,
            offsets.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    let ring = map(MAP, flags, fd.as_raw_fd(), XDP_PGOFF_TX_RING)?;
    let at = |offset: u64| ring.wrapping_add(usize::try_from(offset).unwrap_or_default());
    // SAFETY: the kernel says that the index is there; the mapping lives as long as the process.
    let producer = unsafe { AtomicU32::from_ptr(at(offsets[4]).cast()) };
    Ok((producer, at(offsets[6])))
}

/// To the first queue of `uplink`, by copying: every device can do that.
fn bind(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated.
    let index = unsafe { libc::if_nametoindex(c"uplink".as_ptr()) };
    // struct sockaddr_xdp: flags, interface, queue, descriptor of shared memory.
    let mut rest = XDP_COPY.to_ne_bytes().to_vec();
    rest.extend(index.to_ne_bytes());
    rest.extend([0; 8]);
    supported(
        "AF_XDP on veth",
        sys::bind(fd, &Address::raw(libc::AF_XDP, &rest)),
    )
}
