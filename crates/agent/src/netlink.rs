//! Asks the kernel's network stack over a socket. Source: `netlink(7)`, `rtnetlink(7)`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use crate::error::AgentError;
use crate::proc_reader::read_error;

/// Room for one answer of the kernel, which sends at most 32 KiB at once.
const BUFFER_BYTES: usize = 32 << 10;

/// The kernel answers at once; a lost answer must not hold a thread for ever.
const TIMEOUT: Duration = Duration::from_secs(5);

const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;

// Types and flags of messages, from `linux/netlink.h`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
/// The bits of an attribute's type that are flags.
const NLA_FLAGS: u16 = 0xc000;

/// A socket to one part of the network stack.
#[derive(Debug)]
pub(crate) struct Netlink {
    name: &'static str,
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// A socket for routes, links and queueing disciplines.
    ///
    /// # Errors
    /// `NoData` if the kernel has no such sockets, `Read`.
    pub(crate) fn route() -> Result<Self, AgentError> {
        Self::open("netlink(ROUTE)", None)
    }

    /// A socket for the state of sockets.
    ///
    /// # Errors
    /// As [`Netlink::route`].
    pub(crate) fn socket_diagnosis() -> Result<Self, AgentError> {
        Self::open("netlink(SOCK_DIAG)", Some(rustix::net::netlink::SOCK_DIAG))
    }

    fn open(name: &'static str, protocol: Option<Protocol>) -> Result<Self, AgentError> {
        let open = || {
            let family = AddressFamily::NETLINK;
            let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
            set_socket_timeout(&socket, Timeout::Recv, Some(TIMEOUT))?;
            Ok(socket)
        };
        let socket = open().map_err(|errno: Errno| error(name, errno))?;
        Ok(Netlink { name, socket, buffer: vec![0; BUFFER_BYTES], sequence: 0 })
    }

    /// Asks for all objects of a kind; hands the body of each to `take`.
    ///
    /// # Errors
    /// `NoData` if the kernel does not know the kind, `Read`.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        take: impl FnMut(&[u8]),
    ) -> Result<(), AgentError> {
        self.try_dump(kind, body, take).map_err(|errno| error(self.name, errno))
    }

    fn try_dump(
        &mut self,
        kind: u16,
        body: &[u8],
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = (HEADER_BYTES + body.len()) as u32;
        let mut request = Vec::with_capacity(length as usize);
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend(0_u32.to_ne_bytes());
        request.extend_from_slice(body);
        send(&self.socket, &request, SendFlags::empty())?;
        loop {
            let (_, length) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
            let mut rest = &self.buffer[..length.min(BUFFER_BYTES)];
            if rest.is_empty() {
                return Err(Errno::BADMSG);
            }
            while let Some(message) = Message::split(&mut rest) {
                // An answer to a question before, whose time was over.
                if message.sequence != self.sequence {
                    continue;
                }
                match message.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return Err(message.errno()),
                    _ => take(message.body),
                }
            }
        }
    }

    /// The name of the network device with this number.
    pub(crate) fn device_name(&self, index: u32) -> Option<String> {
        rustix::net::netdevice::index_to_name(self.socket.as_fd(), index).ok()
    }
}

fn error(name: &'static str, errno: Errno) -> AgentError {
    let unknown = [Errno::NOENT, Errno::PROTONOSUPPORT, Errno::AFNOSUPPORT, Errno::OPNOTSUPP];
    if unknown.contains(&errno) {
        return AgentError::NoData { path: PathBuf::from(name) };
    }
    read_error(&PathBuf::from(name), io::Error::from(errno))
}

struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes the first message; nothing at the end and if the length is wrong.
    fn split(rest: &mut &'a [u8]) -> Option<Self> {
        let length = u32_at(rest, 0)? as usize;
        let (kind, sequence) = (u16_at(rest, 4)?, u32_at(rest, 8)?);
        let body = rest.get(HEADER_BYTES..length)?;
        *rest = rest.get(aligned(length)..).unwrap_or_default();
        Some(Message { kind, sequence, body })
    }

    /// The error a message of that kind reports.
    fn errno(&self) -> Errno {
        let code = u32_at(self.body, 0).map_or(0, |code| (code as i32).wrapping_neg());
        // Zero acknowledges, which nobody asked for.
        if code > 0 { Errno::from_raw_os_error(code) } else { Errno::BADMSG }
    }
}

/// The attributes that lie in `bytes`, each with its type and its value.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & !NLA_FLAGS;
        let value = rest.get(ATTRIBUTE_HEADER_BYTES..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(other, _)| *other == kind).map(|(_, value)| value)
}

fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RTM_GETLINK: u16 = 18;

    #[test]
    fn the_kernel_lists_its_links() {
        let mut netlink = Netlink::route().expect("Linux has netlink");
        let mut indexes = Vec::new();
        netlink
            .dump(RTM_GETLINK, &[0; 16], |link| indexes.extend(u32_at(link, 4)))
            .expect("links are listed");
        let names: Vec<_> = indexes.iter().filter_map(|&i| netlink.device_name(i)).collect();
        assert!(names.iter().any(|name| name == "lo"), "{names:?}");
        let refused = netlink.dump(0xfff0, &[], |_| {}).expect_err("no such kind");
        assert!(refused.to_string().contains("netlink(ROUTE)"), "{refused}");
    }

    #[test]
    fn attributes_of_any_length() {
        let bytes = [6, 0, 1, 0, 7, 8, 0, 0, 4, 0, 2, 0x80, 99, 0, 3, 0];
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found, [(1, &[7, 8][..]), (2, &[][..])]);
        assert_eq!(attribute(&bytes, 1), Some(&[7, 8][..]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut rest = &bytes[..];
            while Message::split(&mut rest).is_some() {}
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
