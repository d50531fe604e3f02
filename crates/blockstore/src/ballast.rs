//! Space that is kept in reserve, so that a full disk can be emptied.
//!
//! Retention frees space by a command to the catalog, and that command has to be logged first: on a
//! disk without a free byte nothing could ever be removed. A file that holds nothing takes some
//! megabytes while there is room, and makes way for such a command.

use std::sync::Arc;

use crate::blobs::BlobError;
use crate::disk::Disk;

/// Size of the reserve: a log file's beginning with a large snapshot, its copy, and some commands.
const SIZE_BYTES: u64 = 8 << 20;
/// It is only taken where so much is free, so that it never is what fills the disk.
const FREE_BYTES: u64 = 4 * SIZE_BYTES;
const PATH: &str = "ballast";

/// The reserve of a disk.
pub struct Ballast {
    disk: Arc<dyn Disk>,
    size_bytes: u64,
}

impl Ballast {
    /// The reserve that an earlier run left, or none yet.
    ///
    /// # Errors
    /// Faults of the disk.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Ballast, BlobError> {
        let size_bytes = match disk.open(PATH) {
            Ok(file) if file.size_bytes() == SIZE_BYTES => SIZE_BYTES,
            // Left by a run that was cut off, or by another version of the program.
            Ok(_) => {
                disk.remove(PATH)?;
                0
            }
            Err(BlobError::NotFound { .. }) => 0,
            Err(error) => return Err(error),
        };
        Ok(Ballast { disk, size_bytes })
    }

    /// What is in reserve now.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Takes the reserve if it is not there and there is plenty of room.
    ///
    /// # Errors
    /// Faults of the disk; that it is full is none.
    pub fn refill(&mut self) -> Result<(), BlobError> {
        if self.size_bytes > 0 || self.disk.free_space_bytes()? < FREE_BYTES {
            return Ok(());
        }
        match self.disk.reserve(PATH, SIZE_BYTES) {
            Ok(()) => {
                self.size_bytes = SIZE_BYTES;
                Ok(())
            }
            Err(BlobError::Full { .. }) => {
                self.disk.remove(PATH)?;
                self.disk.sync_directory("")
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the reserve back to the disk, durably, and yields whether there was one.
    ///
    /// # Errors
    /// Faults of the disk.
    pub fn release(&mut self) -> Result<bool, BlobError> {
        if self.size_bytes == 0 {
            return Ok(false);
        }
        self.disk.remove(PATH)?;
        // Some file systems give the space back only when this is durable.
        self.disk.sync_directory("")?;
        self.size_bytes = 0;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{FileDisk, MemoryDisk};

    #[test]
    fn the_reserve_is_taken_once_and_given_back() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disks: [Arc<dyn Disk>; 2] = [
            Arc::new(MemoryDisk::new()),
            Arc::new(FileDisk::open(directory.path()).expect("a new directory")),
        ];
        for disk in disks {
            let mut ballast = Ballast::open(Arc::clone(&disk)).expect("an empty disk");
            assert!(!ballast.release().expect("a sound disk"));
            ballast.refill().expect("there is room");
            ballast.refill().expect("there is one");
            let listed = disk.list("").expect("a sound disk");
            let found = listed.iter().find(|file| file.key == PATH).expect("listed");
            assert_eq!(found.size_bytes, SIZE_BYTES);
            let mut ballast = Ballast::open(Arc::clone(&disk)).expect("a sound disk");
            assert_eq!(ballast.size_bytes(), SIZE_BYTES);
            assert!(ballast.release().expect("a sound disk"));
            assert_eq!(ballast.size_bytes(), 0);
            assert!(disk.list("").expect("a sound disk").iter().all(|file| file.key != PATH));
        }
    }

    #[test]
    fn it_never_fills_a_disk_and_the_space_is_real() {
        let disk = MemoryDisk::new();
        let mut ballast = Ballast::open(Arc::new(disk.clone())).expect("an empty disk");
        disk.set_capacity_bytes(Some(FREE_BYTES - 1));
        ballast.refill().expect("there is too little room");
        assert_eq!(ballast.size_bytes(), 0);
        disk.set_capacity_bytes(Some(FREE_BYTES));
        ballast.refill().expect("there is room");
        assert_eq!(disk.free_space_bytes().expect("memory"), FREE_BYTES - SIZE_BYTES);
        assert!(ballast.release().expect("a sound disk"));
        assert_eq!(disk.free_space_bytes().expect("memory"), FREE_BYTES);
        // A file of another size is what an unfinished run left.
        disk.create(PATH).and_then(|mut file| file.append(&[b"half"])).expect("there is room");
        let ballast = Ballast::open(Arc::new(disk.clone())).expect("a sound disk");
        assert_eq!(ballast.size_bytes(), 0);
    }
}
