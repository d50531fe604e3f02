//! Zones of time that templates of queries name.

use std::sync::{Arc, LazyLock};

use model::ZoneFiles;

static FILES: LazyLock<ZoneFiles> = LazyLock::new(|| ZoneFiles::new(|path| std::fs::read(path)));

/// The file of a zone as this host has it; `None` if it has none of that name.
pub(crate) fn of_host(name: &str) -> Option<Arc<[u8]>> {
    FILES.get(name)
}
