//! Zones of time that stages name.

use std::sync::{Arc, LazyLock};

use model::ZoneFiles;

static FILES: LazyLock<ZoneFiles> = LazyLock::new(files);

fn files() -> ZoneFiles {
    ZoneFiles::new(|path| std::fs::read(path))
}

/// The file of a zone as this host has it; `None` if it has none of that name.
pub(super) fn of_host(name: &str) -> Option<Arc<[u8]>> {
    FILES.get(name)
}

/// The same, read anew: a zone may have been installed since.
pub(super) fn of_host_now(name: &str) -> Option<Arc<[u8]>> {
    files().get(name)
}
