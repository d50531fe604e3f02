//! A link between two processes that can be cut and stalled.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};

/// Passes bytes on between whoever connects and `target`.
pub(super) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    open: Mutex<Vec<TcpStream>>,
    is_stalled: AtomicBool,
    is_over: AtomicBool,
}

impl Link {
    pub(super) fn to(target: SocketAddr) -> Result<Link> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen for the link")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target,
            open: Mutex::default(),
            is_stalled: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if for_thread.is_over.load(Ordering::Relaxed) {
                    return;
                }
                // A target that is not there is a refused connection to the other side.
                let _ = for_thread.join(socket);
            }
        });
        Ok(Link { address, shared })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection.
    pub(super) fn cut(&self) {
        for socket in self.shared.open.lock().expect("nobody panics with it").drain(..) {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Passes nothing on, or again; connections stay open, as when packets are lost.
    pub(super) fn stall(&self, is_stalled: bool) {
        self.shared.is_stalled.store(is_stalled, Ordering::Relaxed);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.cut();
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn join(self: &Arc<Self>, near: TcpStream) -> Result<()> {
        let far = TcpStream::connect_timeout(&self.target, Duration::from_secs(1))?;
        let mut open = self.open.lock().expect("nobody panics with it");
        open.extend([near.try_clone()?, far.try_clone()?]);
        drop(open);
        for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.copy(from, to));
        }
        Ok(())
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            while self.is_stalled.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
