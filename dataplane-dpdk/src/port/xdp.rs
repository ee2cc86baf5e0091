//! The XDP program on a kernel interface: what net_af_xdp leaves behind when its process dies.
//!
//! Two messages over rtnetlink (ask for the link, change the link) and two `bpf(2)` calls (the program's name), because a host with
//! DPDK need not have `ip` or `bpftool`.
//!
//! **Invariant:** takes off nothing but the program that libxdp loads for AF_XDP sockets.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A program on an interface.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// Its name, at most 15 bytes long.
    pub(super) name: String,
    mode: u8,
}

impl Program {
    /// Whether it is the one that libxdp loads for AF_XDP sockets, so that a dead process may have left it.
    pub(super) fn is_leftover(&self) -> bool {
        self.name == "xsk_def_prog"
    }

    /// Takes it off `interface`.
    pub(super) fn detach(&self, interface: &str) -> io::Result<()> {
        detach(interface, self.mode)
    }
}

/// A program as it was seen on its interface: known by its number, which takes no rights to find out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attached {
    interface: String,
    id: u32,
    mode: u8,
}

impl Attached {
    /// The one on `interface` now.
    pub(super) fn to(interface: &str) -> Option<Self> {
        let (id, mode) = found(&Link::open(interface).ok()?).ok()??;
        Some(Self { interface: interface.to_owned(), id, mode })
    }

    /// Takes it off, if it is still there.
    pub(super) fn detach(&self) {
        let gone = match Self::to(&self.interface) {
            Some(now) if now == *self => detach(&self.interface, self.mode),
            _ => Ok(()),
        };
        if let Err(error) = gone {
            tracing::warn!(interface = %self.interface, %error, "the XDP program stays on the interface: `ip link set IFACE xdp off`");
        }
    }
}

/// The program on `interface`, if there is one.
pub(super) fn attached(interface: &str) -> io::Result<Option<Program>> {
    let Some((id, mode)) = found(&Link::open(interface)?)? else { return Ok(None) };
    Ok(Some(Program { name: program_name(id)?, mode }))
}

/// The number and the mode of the program on a link.
fn found(link: &Link) -> io::Result<Option<(u32, u8)>> {
    let reply = link.ask(RTM_GETLINK, 0, &[])?;
    let xdp = reply.get(HEADER_BYTES..).and_then(|attributes| attribute(attributes, IFLA_XDP));
    let id = xdp.and_then(|xdp| attribute(xdp, IFLA_XDP_PROG_ID)?.first_chunk().copied());
    let mode = xdp.and_then(|xdp| attribute(xdp, IFLA_XDP_ATTACHED)?.first().copied()).unwrap_or(0);
    Ok(id.map(|id| (u32::from_ne_bytes(id), mode)))
}

/// Takes the program of this mode off `interface`.
fn detach(interface: &str, mode: u8) -> io::Result<()> {
    let flags: u32 = if mode == XDP_ATTACHED_SKB { XDP_FLAGS_SKB_MODE } else { XDP_FLAGS_DRV_MODE };
    let mut xdp = Vec::new();
    push_attribute(&mut xdp, IFLA_XDP_FD, &(-1_i32).to_ne_bytes());
    push_attribute(&mut xdp, IFLA_XDP_FLAGS, &flags.to_ne_bytes());
    let mut attributes = Vec::new();
    push_attribute(&mut attributes, IFLA_XDP | NLA_F_NESTED, &xdp);
    let reply = Link::open(interface)?.ask(RTM_SETLINK, NLM_F_ACK, &attributes)?;
    // An acknowledgement is an error message with the number 0.
    let errno = reply.get(16..20).and_then(|e| e.first_chunk().copied()).map_or(-libc::EPROTO, i32::from_ne_bytes);
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-errno)) }
}

/// A rtnetlink socket and the interface it asks about.
struct Link {
    socket: OwnedFd,
    index: u32,
}

impl Link {
    fn open(interface: &str) -> io::Result<Self> {
        let index = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?;
        let index = index.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        // SAFETY: takes three integers.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just opened, and is ours alone.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) }, index })
    }

    /// Sends one message about the interface and answers the reply, header included.
    fn ask(&self, kind: u16, flags: u16, attributes: &[u8]) -> io::Result<Vec<u8>> {
        let len = u32::try_from(HEADER_BYTES + attributes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // struct nlmsghdr, then struct ifinfomsg.
        let mut message = Vec::new();
        message.extend_from_slice(&len.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(&[0; 4]);
        message.extend_from_slice(&self.index.to_ne_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(attributes);
        let fd = self.socket.as_raw_fd();
        // SAFETY: `message` is as long as we say. Without an address the message goes to the kernel.
        if unsafe { libc::send(fd, message.as_ptr().cast(), message.len(), 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut reply = vec![0; 32 * 1024];
        // SAFETY: `reply` is as long as we say.
        let got = unsafe { libc::recv(fd, reply.as_mut_ptr().cast(), reply.len(), 0) };
        reply.truncate(usize::try_from(got).map_err(|_| io::Error::last_os_error())?);
        Ok(reply)
    }
}

/// The name of a loaded program.
fn program_name(id: u32) -> io::Result<String> {
    let mut by_id = [0_u8; 16];
    by_id[..4].copy_from_slice(&id.to_ne_bytes());
    let program = bpf(BPF_PROG_GET_FD_BY_ID, &mut by_id)?;
    // SAFETY: the descriptor was just opened, and is ours alone.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let mut info = [0_u8; PROGRAM_INFO_BYTES];
    let mut query = [0_u8; 16];
    query[..4].copy_from_slice(&program.as_raw_fd().to_ne_bytes());
    query[4..8].copy_from_slice(&(u32::try_from(info.len()).expect("a small array")).to_ne_bytes());
    query[8..].copy_from_slice(&(info.as_mut_ptr().expose_provenance() as u64).to_ne_bytes());
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut query)?;
    let name = &info[PROGRAM_NAME_AT..PROGRAM_NAME_AT + 16];
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// `bpf(2)`. The buffers that `attributes` points to must be alive and as long as it says.
fn bpf(command: i32, attributes: &mut [u8; 16]) -> io::Result<i32> {
    // SAFETY: the kernel reads 16 bytes of `attributes`, and writes to the info buffer that `program_name` names with its length.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), attributes.len()) };
    i32::try_from(ret).ok().filter(|&ret| ret >= 0).ok_or_else(io::Error::last_os_error)
}

/// The first attribute of this kind in a list (`struct nlattr`).
fn attribute(mut list: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let &[l0, l1, k0, k1, ..] = list else { return None };
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        // `get` refuses a length below 4, which would go round for ever.
        let value = list.get(4..len)?;
        if u16::from_ne_bytes([k0, k1]) & !NLA_F_NESTED == kind {
            return Some(value);
        }
        list = list.get(len.next_multiple_of(4)..)?;
    }
}

fn push_attribute(list: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).expect("a few bytes");
    list.extend_from_slice(&len.to_ne_bytes());
    list.extend_from_slice(&kind.to_ne_bytes());
    list.extend_from_slice(value);
    list.resize(list.len().next_multiple_of(4), 0);
}

// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/bpf.h
/// Bytes of `nlmsghdr` and `ifinfomsg`.
const HEADER_BYTES: usize = 16 + 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLA_F_NESTED: u16 = 1 << 15;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_SKB: u8 = 2;
const XDP_FLAGS_SKB_MODE: u32 = 2;
const XDP_FLAGS_DRV_MODE: u32 = 4;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
/// Of `struct bpf_prog_info`: up to the name and behind it, and where the name is.
const PROGRAM_INFO_BYTES: usize = 128;
const PROGRAM_NAME_AT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_in_their_list() {
        let mut list = Vec::new();
        push_attribute(&mut list, 7, b"odd");
        push_attribute(&mut list, IFLA_XDP | NLA_F_NESTED, b"four");
        assert_eq!(attribute(&list, 7), Some(&b"odd"[..]));
        assert_eq!(attribute(&list, IFLA_XDP), Some(&b"four"[..]));
        assert_eq!(attribute(&list, 8), None);
        assert_eq!(attribute(&[0, 0, 0, 0], 8), None, "a length that can't be");
        assert_eq!(attribute(&[200, 0, 7, 0], 7), None);
    }

    #[test]
    fn loopback_has_no_program_and_an_unknown_interface_is_an_error() {
        assert_eq!(attached("lo").unwrap(), None);
        assert!(attached("no-such-interface").is_err());
    }
}
