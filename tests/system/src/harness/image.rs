//! A small disk: an ext4 file system in a file, mounted through a loop device.
//!
//! The image file holds what the file system has pushed to "the disk": what was synced, and what
//! the kernel wrote back by itself. So a copy of it, taken while the program is stopped, is the
//! disk after a power cut.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// An image and where it is mounted; unmounted when dropped.
pub(crate) struct Image {
    file: PathBuf,
    mount_point: PathBuf,
    is_mounted: bool,
}

impl Image {
    /// Makes an empty file system of `megabytes` in `directory` and mounts it.
    ///
    /// # Errors
    /// Not root, no loop devices or no ext4: these tests cannot run on such a machine.
    pub(crate) fn create(directory: &Path, megabytes: u64) -> Result<Image> {
        let file = directory.join("disk.img");
        let mount_point = directory.join("disk");
        std::fs::create_dir_all(&mount_point).context("make the mount point")?;
        std::fs::File::create(&file)
            .and_then(|image| image.set_len(megabytes << 20))
            .context("make the image")?;
        // No blocks kept back for root: a full disk is to be full for everyone.
        run("mkfs.ext4", &["-q", "-F", "-m", "0"], &[&file])?;
        let mut image = Image { file, mount_point, is_mounted: false };
        image.mount()?;
        Ok(image)
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Mounts it, replaying the file system's journal as after a power cut.
    pub(crate) fn mount(&mut self) -> Result<()> {
        run("mount", &["-o", "loop,errors=remount-ro"], &[&self.file, &self.mount_point])
            .context("mount an image, which needs root and loop devices")?;
        self.is_mounted = true;
        Ok(())
    }

    /// Copies the disk as it is now.
    pub(crate) fn snapshot(&self) -> Result<PathBuf> {
        let copy = self.file.with_extension("cut");
        run("cp", &["--sparse=always"], &[&self.file, &copy])?;
        Ok(copy)
    }

    /// Takes the disk away and boots from `snapshot` instead.
    pub(crate) fn boot_from(&mut self, snapshot: &Path) -> Result<()> {
        self.unmount()?;
        std::fs::rename(snapshot, &self.file).context("put the copied disk in place")?;
        self.mount()
    }

    /// Makes the file system find a fault in itself: it becomes read-only under its users.
    pub(crate) fn break_down(&self) -> Result<()> {
        let mounts = std::fs::read_to_string("/proc/mounts").context("read /proc/mounts")?;
        let mount_point = self.mount_point.display().to_string();
        let device = mounts
            .lines()
            .find(|line| line.split(' ').nth(1) == Some(&mount_point))
            .and_then(|line| line.strip_prefix("/dev/")?.split(' ').next())
            .context("the image is not in /proc/mounts")?;
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1")
            .context("trigger a fault of the file system")
    }

    /// Mounts it anew, as after a repair.
    pub(crate) fn remount(&mut self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    fn unmount(&mut self) -> Result<()> {
        // The kernel may hold files of a killed process for a moment longer.
        let mut tries = 0;
        while let Err(error) = run("umount", &[], &[&self.mount_point]) {
            tries += 1;
            if tries == 50 {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.is_mounted = false;
        Ok(())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(error) = self.unmount()
        {
            eprintln!("{error:#}");
        }
    }
}

fn run(program: &str, arguments: &[&str], paths: &[&Path]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .args(paths)
        .output()
        .with_context(|| format!("start {program}; is it installed?"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} ended with {}: {}", output.status, said.trim());
    }
    Ok(())
}
