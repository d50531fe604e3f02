//! Names of PCI vendors, devices and classes. Source: <https://pci-ids.ucw.cz>.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::sysfs;

/// Where distributions put the file.
const USUAL_PLACES: [&str; 4] = [
    "usr/share/misc/pci.ids",
    "usr/share/hwdata/pci.ids",
    "usr/share/pci.ids",
    "usr/share/libpci/pci.ids",
];

/// The names of the devices of this host. The file has a megabyte of others, so it is read when
/// a device without a known name turns up and not kept.
pub(crate) struct PciNames {
    places: Vec<PathBuf>,
    /// Devices that were looked up, found or not.
    seen: HashSet<String>,
    /// Names by identifiers: `vendor`, `vendor device`, `vendor device subvendor subdevice`,
    /// `C class`, `C class subclass`, `C class subclass interface`, all without `0x`.
    names: HashMap<String, String>,
}

impl PciNames {
    pub(crate) fn new(idsfile: Option<&Path>, root_fs: &Path) -> Self {
        let places = match idsfile {
            Some(path) => vec![path.to_owned()],
            None => USUAL_PLACES.map(|place| root_fs.join(place)).to_vec(),
        };
        PciNames { places, seen: HashSet::new(), names: HashMap::new() }
    }

    /// Looks up devices, each given by class, vendor, device, subsystem's vendor and device.
    pub(crate) fn learn<'a>(&mut self, devices: impl Iterator<Item = [&'a String; 5]>) {
        let mut wanted = HashSet::new();
        for ids in devices {
            let [class, vendor, device, subvendor, subdevice] = ids.map(|id| plain(id));
            let device = format!("{vendor} {device}");
            if !self.seen.insert(format!("{class} {device} {subvendor} {subdevice}")) {
                continue;
            }
            wanted.extend(class_keys(class));
            wanted.extend([vendor.to_owned(), subvendor.to_owned()]);
            wanted.insert(format!("{device} {subvendor} {subdevice}"));
            wanted.insert(device);
        }
        if wanted.is_empty() {
            return;
        }
        let text = self.places.iter().find_map(|place| sysfs::read_text(place).ok());
        for (key, name) in parse(&text.unwrap_or_default()) {
            if wanted.contains(&key) {
                self.names.insert(key, name);
            }
        }
    }

    /// The name of the interface, the subclass or the class, the finest that has one.
    pub(crate) fn class(&self, class: &str) -> &str {
        let keys = class_keys(plain(class));
        keys.iter().rev().map(|key| self.name(key)).find(|name| !name.is_empty()).unwrap_or("")
    }

    pub(crate) fn vendor(&self, vendor: &str) -> &str {
        self.name(plain(vendor))
    }

    pub(crate) fn device(&self, vendor: &str, device: &str) -> &str {
        self.name(&format!("{} {}", plain(vendor), plain(device)))
    }

    pub(crate) fn subsystem(&self, vendor: &str, device: &str, subsystem: [&str; 2]) -> &str {
        let [subvendor, subdevice] = subsystem.map(plain);
        self.name(&format!("{} {} {subvendor} {subdevice}", plain(vendor), plain(device)))
    }

    fn name(&self, key: &str) -> &str {
        self.names.get(key).map_or("", String::as_str)
    }
}

fn plain(id: &str) -> &str {
    id.strip_prefix("0x").unwrap_or(id)
}

/// From the coarsest to the finest, for a class of six digits.
fn class_keys(class: &str) -> Vec<String> {
    let part = |range| class.get(range).unwrap_or_default();
    let (class, subclass, interface) = (part(0..2), part(2..4), part(4..6));
    vec![
        format!("C {class}"),
        format!("C {class} {subclass}"),
        format!("C {class} {subclass} {interface}"),
    ]
}

/// Keys and names of all lines. Indentation by tabs says what a line belongs to.
fn parse(text: &str) -> impl Iterator<Item = (String, String)> {
    let mut first = String::new();
    let mut second = String::new();
    text.lines().filter_map(move |line| {
        let rest = line.trim_start_matches('\t');
        if rest.starts_with('#') {
            return None;
        }
        let (id, name) = rest.split_once("  ")?;
        let key = match line.len() - rest.len() {
            0 => {
                first = id.to_owned();
                first.clone()
            }
            1 => {
                second = format!("{first} {id}");
                second.clone()
            }
            _ => format!("{second} {id}"),
        };
        Some((key, name.trim().to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_device() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let text = "# x\nC 01  Storage\n\t08  NVM\n\t\t02  NVM Express\n8086  Intel\n\t1521  I350\n\
                    \t\t8086 00a3  I350-T4\n1af4  Red Hat\n";
        std::fs::write(file.path(), text).expect("write");
        let mut names = PciNames::new(Some(file.path()), Path::new("/"));
        let ids = ["0x010802", "0x8086", "0x1521", "0x8086", "0x00a3"].map(str::to_owned);
        names.learn([ids.each_ref()].into_iter());
        assert_eq!(names.class("0x010802"), "NVM Express");
        assert_eq!(names.class("0x0108ff"), "NVM");
        assert_eq!((names.vendor("0x8086"), names.device("0x8086", "0x1521")), ("Intel", "I350"));
        assert_eq!(names.subsystem("0x8086", "0x1521", ["0x8086", "0x00a3"]), "I350-T4");
        assert_eq!(names.vendor("0x1af4"), "", "nobody asked for it");
        std::fs::write(file.path(), "").expect("write");
        names.learn([ids.each_ref()].into_iter());
        assert_eq!(names.vendor("0x8086"), "Intel", "known devices are not looked up again");
    }
}
