//! Ports for syslog: over UDP, one message in each datagram; over TCP and TLS, framed as RFC 6587 says.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use wire::logs::syslog_frames::SyslogFrames;

use crate::NetMetrics;
use crate::accepting::accept_all;
use crate::tls::ServerTls;

/// Messages are handed on at the latest when there are this many bytes of them.
const BATCH_BYTES: usize = 256 << 10;
/// Largest datagram there is.
const MAX_DATAGRAM_BYTES: usize = 64 << 10;
/// Batches of datagrams that may wait; more are dropped, since nobody could tell their senders to wait.
const WAITING_BATCHES: usize = 32;
/// How much the system is asked to hold of datagrams that are not read yet.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// For a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// After a receive failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Messages without their frames, one behind the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyslogMessages {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl SyslogMessages {
    /// Adds one.
    pub fn push(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.ends.push(self.bytes.len());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Each, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let start = |index: usize| index.checked_sub(1).map_or(0, |before| self.ends[before]);
        (0..self.ends.len()).map(move |index| &self.bytes[start(index)..self.ends[index]])
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }
}

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(TcpListener, Option<ServerTls>),
}

/// A port for syslog on which nothing is accepted yet.
#[derive(Debug)]
pub struct SyslogPort {
    socket: Socket,
    local_addr: SocketAddr,
    max_message_bytes: usize,
    metrics: Arc<NetMetrics>,
}

impl SyslogPort {
    /// Listens for datagrams on `address`; port 0 lets the system choose. Longer messages than
    /// `max_message_bytes` are cut.
    ///
    /// # Errors
    /// The system's, with the address in the message.
    pub async fn udp(
        address: SocketAddr,
        max_message_bytes: usize,
        metrics: Arc<NetMetrics>,
    ) -> io::Result<SyslogPort> {
        let socket = UdpSocket::bind(address).await.map_err(|error| told(address, &error))?;
        // As much as the system allows (`net.core.rmem_max`): what does not fit in is lost unseen.
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES);
        let local_addr = socket.local_addr()?;
        Ok(SyslogPort { socket: Socket::Udp(socket), local_addr, max_message_bytes, metrics })
    }

    /// Listens for connections, which speak TLS if `tls` is given.
    ///
    /// # Errors
    /// As [`SyslogPort::udp`].
    pub async fn tcp(
        address: SocketAddr,
        tls: Option<ServerTls>,
        max_message_bytes: usize,
        metrics: Arc<NetMetrics>,
    ) -> io::Result<SyslogPort> {
        let listener = TcpListener::bind(address).await.map_err(|error| told(address, &error))?;
        let local_addr = listener.local_addr()?;
        let socket = Socket::Tcp(listener, tls);
        Ok(SyslogPort { socket, local_addr, max_message_bytes, metrics })
    }

    /// The address with its real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Hands messages to `take` until `shutdown` is done. Over a connection nothing more is read before
    /// `take` is done, so that a sender that is too fast has to wait; datagrams are held up to 8 MiB
    /// meanwhile and then dropped, which is counted.
    pub async fn serve<F>(
        self,
        take: impl Fn(SyslogMessages) -> F + Clone + Send + Sync + 'static,
        shutdown: impl Future<Output = ()>,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        match self.socket {
            Socket::Udp(socket) => {
                datagrams(&socket, self.max_message_bytes, &self.metrics, take, shutdown).await;
            }
            Socket::Tcp(listener, tls) => {
                let max_message_bytes = self.max_message_bytes;
                let tls = tls.map(|tls| TlsAcceptor::from(tls.config));
                let port = Port { tls, max_message_bytes, metrics: self.metrics };
                connections(listener, port, take, shutdown).await;
            }
        }
    }
}

fn told(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("listen on {address}: {error}"))
}

async fn datagrams<F: Future<Output = ()> + Send>(
    socket: &UdpSocket,
    max_message_bytes: usize,
    metrics: &NetMetrics,
    take: impl Fn(SyslogMessages) -> F + Send + 'static,
    shutdown: impl Future<Output = ()>,
) {
    let (sender, mut waiting) = mpsc::channel(WAITING_BATCHES);
    let taking = tokio::spawn(async move {
        while let Some(messages) = waiting.recv().await {
            take(messages).await;
        }
    });
    let mut shutdown = pin!(shutdown);
    let (mut datagram, mut messages) = (vec![0; MAX_DATAGRAM_BYTES], SyslogMessages::default());
    loop {
        let received = tokio::select! {
            biased;
            () = &mut shutdown => break,
            place = sender.reserve(), if !messages.is_empty() => {
                let Ok(place) = place else { break };
                place.send(std::mem::take(&mut messages));
                continue;
            }
            received = socket.recv_from(&mut datagram) => received,
        };
        let mut received = match received {
            Ok((len, _)) => Some(len),
            Err(error) => {
                metrics.accept_errors.fetch_add(1, Relaxed);
                tracing::warn!(%error, "cannot receive datagrams, trying again");
                sleep(PAUSE).await;
                continue;
            }
        };
        while let Some(len) = received {
            if messages.is_full() {
                // What is stored is slower than what comes, and all places are taken.
                metrics.syslog_dropped.fetch_add(1, Relaxed);
                break;
            }
            metrics.syslog_cut.fetch_add(u64::from(len > max_message_bytes), Relaxed);
            messages.push(&datagram[..len.min(max_message_bytes)]);
            if messages.is_full() {
                break;
            }
            received = socket.try_recv_from(&mut datagram).ok().map(|(len, _)| len);
        }
    }
    if !messages.is_empty() {
        let _ = sender.send(messages).await;
    }
    drop(sender);
    let _ = timeout(Duration::from_secs(5), taking).await;
}

/// What connections of a port have in common.
#[derive(Clone)]
struct Port {
    tls: Option<TlsAcceptor>,
    max_message_bytes: usize,
    metrics: Arc<NetMetrics>,
}

async fn connections<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    port: Port,
    take: impl Fn(SyslogMessages) -> F + Clone + Send + Sync + 'static,
    shutdown: impl Future<Output = ()>,
) {
    let metrics = Arc::clone(&port.metrics);
    accept_all(&listener, &metrics, shutdown, |socket, peer, stopped| {
        connection(socket, peer, port.clone(), take.clone(), stopped)
    })
    .await;
}

async fn connection<F: Future<Output = ()>>(
    socket: TcpStream,
    peer: SocketAddr,
    port: Port,
    take: impl Fn(SyslogMessages) -> F,
    stopped: watch::Receiver<bool>,
) {
    // So a peer that is gone for good does not keep its place. There is no limit of idle time: a sender that
    // finds its connection closed has lost a message by then.
    let _ = rustix::net::sockopt::set_socket_keepalive(&socket, true);
    let Port { tls, max_message_bytes, metrics } = port;
    match tls {
        None => read(socket, peer, max_message_bytes, &metrics, take, stopped).await,
        Some(tls) => match timeout(HANDSHAKE, tls.accept(socket)).await {
            Ok(Ok(stream)) => read(stream, peer, max_message_bytes, &metrics, take, stopped).await,
            Ok(Err(error)) => tracing::debug!(%peer, %error, "a handshake of syslog failed"),
            Err(_) => tracing::debug!(%peer, "a handshake of syslog took too long"),
        },
    }
}

async fn read<F: Future<Output = ()>>(
    mut stream: impl AsyncRead + Unpin,
    peer: SocketAddr,
    max_message_bytes: usize,
    metrics: &NetMetrics,
    take: impl Fn(SyslogMessages) -> F,
    mut stopped: watch::Receiver<bool>,
) {
    let mut frames = SyslogFrames::new(max_message_bytes);
    let mut chunk = vec![0; 32 << 10];
    let ended = loop {
        let read = tokio::select! {
            biased;
            // The beginning of a message is none.
            _ = stopped.wait_for(|stopped| *stopped) => return,
            read = stream.read(&mut chunk) => read,
        };
        let read = match read {
            Ok(0) => break Ok(()),
            Ok(read) => read,
            // What came before is whole messages, and the rest of one is none.
            Err(_) => return,
        };
        frames.push(&chunk[..read]);
        let before = frames.cut_messages();
        let (messages, ended) = whole(&mut frames);
        metrics.syslog_cut.fetch_add(frames.cut_messages() - before, Relaxed);
        if !messages.is_empty() {
            take(messages).await;
        }
        if ended.is_err() {
            break ended;
        }
    };
    let rest = ended.and_then(|()| frames.finish());
    match rest {
        Ok(Some(last)) if !last.is_empty() => {
            let mut messages = SyslogMessages::default();
            messages.push(&last);
            take(messages).await;
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%peer, %error, "a connection of syslog is closed"),
    }
}

/// All messages that are there.
fn whole(
    frames: &mut SyslogFrames,
) -> (SyslogMessages, Result<(), wire::logs::syslog_frames::FrameError>) {
    let mut messages = SyslogMessages::default();
    loop {
        match frames.next_message() {
            Ok(Some(message)) => {
                if !message.is_empty() {
                    messages.push(message);
                }
            }
            Ok(None) => return (messages, Ok(())),
            Err(error) => return (messages, Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::AsyncWriteExt;
    use tokio::sync::oneshot;

    use super::*;

    type Taken = Arc<Mutex<Vec<Vec<u8>>>>;

    /// Serves a port while `send` sends, and yields what it took.
    async fn received<F: Future<Output = ()>>(
        port: SyslogPort,
        wanted: usize,
        send: impl FnOnce(SocketAddr) -> F,
    ) -> Vec<String> {
        let (taken, address) = (Taken::default(), port.local_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let into = Arc::clone(&taken);
        let take = move |messages: SyslogMessages| {
            into.lock().expect("whole").extend(messages.iter().map(<[u8]>::to_vec));
            std::future::ready(())
        };
        let serving = tokio::spawn(port.serve(take, async move {
            let _ = stopped.await;
        }));
        send(address).await;
        for _ in 0..500 {
            if taken.lock().expect("whole").len() >= wanted {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
        let _ = stop.send(());
        serving.await.expect("serves");
        let taken = taken.lock().expect("whole");
        taken.iter().map(|message| String::from_utf8_lossy(message).into_owned()).collect()
    }

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[tokio::test]
    async fn connections_may_count_and_may_end_lines() {
        let metrics = Arc::new(NetMetrics::default());
        let port = SyslogPort::tcp(loopback(), None, 20, Arc::clone(&metrics)).await.expect("free");
        let found = received(port, 5, async |address| {
            let mut stream = TcpStream::connect(address).await.expect("listens");
            for part in [
                "7 <13>a",
                " b<14>line\n",
                "<15>",
                "longer than twenty bytes\n",
                "4 <1>x",
                "<16>rest",
            ] {
                stream.write_all(part.as_bytes()).await.expect("open");
                stream.flush().await.expect("open");
            }
        })
        .await;
        assert_eq!(found, ["<13>a b", "<14>line", "<15>longer than twen", "<1>x", "<16>rest"]);
        assert_eq!(metrics.syslog_cut.load(Relaxed), 1);
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_its_connection_and_what_came_before_is_kept() {
        let port = SyslogPort::tcp(loopback(), None, 100, Arc::default()).await.expect("free");
        let found = received(port, 1, async |address| {
            let mut stream = TcpStream::connect(address).await.expect("listens");
            stream.write_all(b"<13>good\n12x<13>bad\n").await.expect("open");
            let mut rest = Vec::new();
            let closed = timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
            assert!(closed.is_ok(), "it is closed");
        })
        .await;
        assert_eq!(found, ["<13>good"]);
    }

    #[tokio::test]
    async fn each_datagram_is_a_message() {
        let metrics = Arc::new(NetMetrics::default());
        let port = SyslogPort::udp(loopback(), 10, Arc::clone(&metrics)).await.expect("free");
        let found = received(port, 3, async |address| {
            let socket = UdpSocket::bind(loopback()).await.expect("free");
            for datagram in ["<13>a", "<13>longer than ten", "<13>c\n"] {
                socket.send_to(datagram.as_bytes(), address).await.expect("sent");
            }
        })
        .await;
        assert_eq!(found, ["<13>a", "<13>longer", "<13>c\n"]);
        assert_eq!(
            (metrics.syslog_cut.load(Relaxed), metrics.syslog_dropped.load(Relaxed)),
            (1, 0)
        );
    }
}
