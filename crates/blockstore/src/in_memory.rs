//! A blob that is nowhere but in memory: what one process writes for another to read at once.

use crate::blobs::{BlobError, BlobWriter, ReadAt};

/// Bytes that are written front to back, and then read from anywhere. Nothing of it is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InMemory(pub Vec<u8>);

impl BlobWriter for InMemory {
    fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn position(&self) -> u64 {
        self.0.len() as u64
    }

    fn finish(self: Box<Self>) -> Result<(), BlobError> {
        Ok(())
    }
}

impl ReadAt for InMemory {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, out: &mut [u8]) -> Result<(), BlobError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.0.get(start..).and_then(|rest| rest.get(..out.len()));
        let bytes = bytes.ok_or_else(|| BlobError::Io {
            action: "read past the end",
            key: "bytes in memory".to_owned(),
            source: std::io::ErrorKind::UnexpectedEof.into(),
        })?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}
