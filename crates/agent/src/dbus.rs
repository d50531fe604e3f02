//! Calls methods over D-Bus. Source: the D-Bus specification, version 0.43.
//!
//! Only what a caller needs: one connection, one call at a time, answers of any type. File
//! descriptors, signals and services are left out.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::AgentError;
use crate::proc_reader::read_error;

mod wire;

pub(crate) use wire::Value;
use wire::{Decoder, Encoder};

/// A bus that does not answer must not hold a thread for ever.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Larger than the list of ten thousand units; the specification allows 128 MiB.
const MAX_MESSAGE_BYTES: u32 = 16 << 20;

/// A bus may send signals before the answer, but not without end.
const MAX_OTHER_MESSAGES: usize = 10_000;

const FIXED_HEADER_BYTES: usize = 16;

// Types of messages.
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

// Fields of a header.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// An object of a service on the bus.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Object<'a> {
    /// The name of the service.
    pub(crate) service: &'a str,
    /// The path of the object.
    pub(crate) path: &'a str,
}

/// A connection to a message bus.
#[derive(Debug)]
pub(crate) struct Bus {
    address: PathBuf,
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    /// Connects to the bus that listens on a socket, as the user this process runs as.
    ///
    /// # Errors
    /// `NoData` if there is no such socket, `Read` if the bus refuses.
    pub(crate) fn connect(address: &Path) -> Result<Self, AgentError> {
        let failed = |error| read_error(address, error);
        let stream = UnixStream::connect(address).map_err(failed)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
        let mut bus = Bus { address: address.to_owned(), stream, serial: 0 };
        bus.authenticate().map_err(failed)?;
        let object = Object { service: "org.freedesktop.DBus", path: "/org/freedesktop/DBus" };
        bus.call(object, "org.freedesktop.DBus", "Hello", &[])?;
        Ok(bus)
    }

    /// Says who we are; the kernel tells the bus whether that is true.
    fn authenticate(&mut self) -> io::Result<()> {
        let user = rustix::process::getuid().as_raw().to_string();
        let hexadecimal: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.stream.write_all(format!("\0AUTH EXTERNAL {hexadecimal}\r\n").as_bytes())?;
        let mut line = Vec::new();
        // One byte at a time: what follows the line is none of ours yet.
        while !line.ends_with(b"\r\n") && line.len() < 1_024 {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        if !line.starts_with(b"OK ") {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the bus refuses us"));
        }
        self.stream.write_all(b"BEGIN\r\n")
    }

    /// Calls a method whose arguments are strings; yields what it returns.
    ///
    /// # Errors
    /// `Read` if the bus or the service refuses or does not answer in 5 s. After an error the
    /// connection is of no use.
    pub(crate) fn call(
        &mut self,
        object: Object<'_>,
        interface: &str,
        member: &str,
        arguments: &[&str],
    ) -> Result<Vec<Value>, AgentError> {
        self.try_call(object, interface, member, arguments)
            .map_err(|error| read_error(&self.address, error))
    }

    /// The value of a property.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub(crate) fn property(
        &mut self,
        object: Object<'_>,
        interface: &str,
        name: &str,
    ) -> Result<Value, AgentError> {
        let properties = "org.freedesktop.DBus.Properties";
        let mut returned = self.call(object, properties, "Get", &[interface, name])?;
        match returned.pop() {
            Some(Value::Variant(value)) => Ok(*value),
            _ => Err(AgentError::Malformed { path: self.address.clone(), expected: "property" }),
        }
    }

    fn try_call(
        &mut self,
        object: Object<'_>,
        interface: &str,
        member: &str,
        arguments: &[&str],
    ) -> io::Result<Vec<Value>> {
        self.serial = self.serial.wrapping_add(1).max(1);
        let message = encode_call(self.serial, object, interface, member, arguments);
        self.stream.write_all(&message)?;
        for _ in 0..MAX_OTHER_MESSAGES {
            let message = self.receive()?;
            if message.reply_to != Some(self.serial) {
                continue;
            }
            return match message.kind {
                METHOD_RETURN => Ok(message.body),
                _ => Err(io::Error::other(format!(
                    "{interface}.{member}: {} {}",
                    message.error_name,
                    message.body.first().and_then(Value::as_str).unwrap_or_default()
                ))),
            };
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the bus sends all but an answer"))
    }

    fn receive(&mut self) -> io::Result<Message> {
        let mut fixed = [0; FIXED_HEADER_BYTES];
        self.stream.read_exact(&mut fixed)?;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "no message of D-Bus");
        let (fields_length, body_length) = wire::lengths(&fixed).ok_or_else(malformed)?;
        let rest = u64::from(fields_length).next_multiple_of(8) + u64::from(body_length);
        if rest > u64::from(MAX_MESSAGE_BYTES) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message above 16 MiB"));
        }
        let mut bytes = fixed.to_vec();
        (&mut self.stream).take(rest).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != FIXED_HEADER_BYTES as u64 + rest {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Message::decode(&bytes).ok_or_else(malformed)
    }
}

/// A message that came.
#[derive(Debug)]
struct Message {
    kind: u8,
    reply_to: Option<u32>,
    error_name: String,
    /// Empty for messages that are no answer.
    body: Vec<Value>,
}

impl Message {
    /// `bytes` is one whole message.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut decoder = Decoder::new(bytes)?;
        let kind = *bytes.get(1)?;
        decoder.skip(12)?;
        let fields = decoder.value("a(yv)")?;
        decoder.align(8)?;
        let mut message =
            Message { kind, reply_to: None, error_name: String::new(), body: Vec::new() };
        let mut signature = String::new();
        for field in fields.into_items() {
            let [Value::Number(code), Value::Variant(value)] = &field.into_items()[..] else {
                return None;
            };
            match (*code as u8, &**value) {
                (REPLY_SERIAL, Value::Number(serial)) => message.reply_to = Some(*serial as u32),
                (ERROR_NAME, Value::Text(name)) => message.error_name.clone_from(name),
                (SIGNATURE, Value::Text(text)) => signature.clone_from(text),
                _ => {}
            }
        }
        if matches!(kind, METHOD_RETURN | ERROR) {
            message.body = decoder.values(&signature)?;
        }
        Some(message)
    }
}

fn encode_call(
    serial: u32,
    object: Object<'_>,
    interface: &str,
    member: &str,
    arguments: &[&str],
) -> Vec<u8> {
    let mut body = Encoder::default();
    arguments.iter().for_each(|argument| body.string(argument));
    let mut message = Encoder::default();
    let endian = if cfg!(target_endian = "little") { b'l' } else { b'B' };
    message.bytes(&[endian, METHOD_CALL, 0, 1]);
    message.u32(body.len() as u32);
    message.u32(serial);
    message.array(|fields| {
        for (code, kind, text) in [
            (PATH, "o", object.path),
            (DESTINATION, "s", object.service),
            (INTERFACE, "s", interface),
            (MEMBER, "s", member),
        ] {
            fields.field(code, kind, |value| value.string(text));
        }
        if !arguments.is_empty() {
            let signature = "s".repeat(arguments.len());
            fields.field(SIGNATURE, "g", |value| value.signature(&signature));
        }
    });
    message.align(8);
    message.append(body)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Daemon {
        child: Child,
        directory: tempfile::TempDir,
    }

    impl Drop for Daemon {
        fn drop(&mut self) {
            self.child.kill().expect("it runs");
            self.child.wait().expect("it ends");
        }
    }

    impl Daemon {
        /// A real bus, if the system has the program.
        fn start() -> Option<Self> {
            let directory = tempfile::tempdir().expect("temporary directory");
            let config = directory.path().join("bus.conf");
            let text = "<busconfig><listen>unix:path=SOCKET</listen><policy context=\"default\">\
                        <allow send_destination=\"*\"/><allow receive_sender=\"*\"/>\
                        <allow own=\"*\"/></policy></busconfig>";
            let socket = directory.path().join("bus");
            let text = text.replace("SOCKET", &socket.display().to_string());
            std::fs::write(&config, text).expect("write");
            let child = Command::new("dbus-daemon")
                .arg("--nofork")
                .arg(format!("--config-file={}", config.display()))
                .stderr(Stdio::null())
                .spawn()
                .ok()?;
            let daemon = Daemon { child, directory };
            for _ in 0..200 {
                if socket.exists() {
                    return Some(daemon);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            None
        }

        fn socket(&self) -> PathBuf {
            self.directory.path().join("bus")
        }
    }

    #[test]
    fn a_real_bus_answers() {
        let Some(daemon) = Daemon::start() else { return };
        let mut bus = Bus::connect(&daemon.socket()).expect("connected");
        let object = Object { service: "org.freedesktop.DBus", path: "/org/freedesktop/DBus" };
        let names = bus.call(object, object.service, "ListNames", &[]).expect("answered");
        let [Value::List(names)] = &names[..] else { panic!("no list: {names:?}") };
        assert!(names.contains(&Value::Text("org.freedesktop.DBus".to_owned())), "{names:?}");
        let features = bus.property(object, object.service, "Features").expect("a property");
        assert!(matches!(features, Value::List(_)), "{features:?}");
        let owner = bus.call(object, object.service, "GetNameOwner", &["org.example.None"]);
        let message = owner.expect_err("nobody has that name").to_string();
        assert!(message.contains("org.freedesktop.DBus.Error.NameHasNoOwner"), "{message}");
    }

    #[test]
    fn no_bus_is_no_failure() {
        let error = Bus::connect(Path::new("/nonexistent/bus")).expect_err("absent");
        assert!(error.is_no_data());
    }
}
