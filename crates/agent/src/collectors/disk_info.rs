//! What udev and sysfs know about block devices: models, serial numbers, filesystems.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::collector::Cadence;
use crate::config::AgentConfig;
use crate::proc_reader::{lines, parse_f64, read_once, trim};
use crate::series::{Family, Keyed, Samples, SeriesRef};

const INFO: Family = Family::gauge("node_disk_info", "Info of /sys/block/<block_device>.");
const FILESYSTEM_INFO: Family =
    Family::gauge("node_disk_filesystem_info", "Info about disk filesystem.");
const DEVICE_MAPPER_INFO: Family =
    Family::gauge("node_disk_device_mapper_info", "Info about disk device mapper.");
/// What ATA disks say about themselves.
const ATA: [Family; 3] = [
    Family::gauge("node_disk_ata_write_cache", "ATA disk has a write cache."),
    Family::gauge("node_disk_ata_write_cache_enabled", "ATA disk has its write cache enabled."),
    Family::gauge(
        "node_disk_ata_rotation_rate_rpm",
        "ATA disk rotation rate in RPMs (0 for SSDs).",
    ),
];

/// How often udev is asked again: a filesystem may have been made on the device.
const PERIOD: Duration = Duration::from_secs(60);

/// What was read about one device, with values where the metric has one.
#[derive(Debug, Default)]
struct Properties {
    read_at: Option<Instant>,
    /// Changes with every label, so that new labels get new series.
    labels: DeviceLabels,
    ata: [Option<f64>; 3],
}

#[derive(Debug, Default, PartialEq, Eq)]
struct DeviceLabels {
    info: [String; 6],
    filesystem: [String; 4],
    mapper: [String; 5],
}

/// The information series of all devices.
pub(crate) struct DiskInfo {
    udev_root: PathBuf,
    block_root: PathBuf,
    cadence: Cadence,
    /// Start of the last round of reading; devices read before it are read again.
    round: Option<Instant>,
    buffer: Vec<u8>,
    devices: Keyed<6, Properties>,
}

impl DiskInfo {
    pub(crate) fn new(config: &AgentConfig) -> Self {
        DiskInfo {
            udev_root: config.udev_root.clone(),
            block_root: config.sys_root.join("block"),
            cadence: Cadence::new(PERIOD),
            round: None,
            buffer: Vec::new(),
            devices: Keyed::new(),
        }
    }

    pub(crate) fn begin(&mut self, now: Instant) {
        if self.cadence.due(now) {
            self.round = Some(now);
        }
        self.devices.begin();
    }

    /// Emits what is known about one device.
    pub(crate) fn emit(&mut self, name: &[u8], major: u64, minor: u64, out: &mut Samples) {
        let device = String::from_utf8_lossy(name);
        let row = self.devices.row(name);
        if row.extra.read_at != self.round {
            let read = read_properties(
                &self.udev_root.join(format!("b{major}:{minor}")),
                &self.block_root.join(&*device).join("queue/rotational"),
                &mut self.buffer,
            );
            if read.labels != row.extra.labels {
                row.series[..3].iter_mut().filter_map(Option::take).for_each(|s| out.release(s));
            }
            row.extra = Properties { read_at: self.round, ..read };
        }
        let [info, filesystem, mapper, ata @ ..] = &mut row.series;
        let labels = &row.extra.labels;
        out.put(info, 1.0, |out| register_info(out, &device, major, minor, &labels.info));
        if !labels.filesystem[0].is_empty() {
            out.put(filesystem, 1.0, |out| {
                let [kind, usage, uuid, version] = &labels.filesystem;
                let own = [("type", kind), ("usage", usage), ("uuid", uuid), ("version", version)];
                register_device(out, &FILESYSTEM_INFO, &device, &own)
            });
        }
        if !labels.mapper[0].is_empty() {
            out.put(mapper, 1.0, |out| {
                let [name, uuid, vg_name, lv_name, lv_layer] = &labels.mapper;
                let own = [
                    ("name", name),
                    ("uuid", uuid),
                    ("vg_name", vg_name),
                    ("lv_name", lv_name),
                    ("lv_layer", lv_layer),
                ];
                register_device(out, &DEVICE_MAPPER_INFO, &device, &own)
            });
        }
        for ((family, place), value) in ATA.iter().zip(ata).zip(row.extra.ata) {
            if let Some(value) = value {
                out.put(place, value, |out| register_device(out, family, &device, &[]));
            }
        }
    }

    pub(crate) fn finish(&mut self, out: &mut Samples) {
        self.devices.finish(out);
    }
}

fn register_info(
    out: &mut Samples,
    device: &str,
    major: u64,
    minor: u64,
    info: &[String; 6],
) -> SeriesRef {
    let (major, minor) = (major.to_string(), minor.to_string());
    let [model, path, revision, serial, wwn, rotational] = info;
    let own = [
        ("major", &major),
        ("minor", &minor),
        ("model", model),
        ("path", path),
        ("revision", revision),
        ("rotational", rotational),
        ("serial", serial),
        ("wwn", wwn),
    ];
    register_device(out, &INFO, device, &own)
}

fn register_device(
    out: &mut Samples,
    family: &Family,
    device: &str,
    own: &[(&str, &String)],
) -> SeriesRef {
    let own = own.iter().map(|&(name, value)| (name, value.as_str()));
    let labels: Vec<_> = own.chain([("device", device)]).collect();
    out.register(family, &labels)
}

/// What udev's record and the file `rotational` of a device say; partitions have no such file.
fn read_properties(udev: &Path, rotational: &Path, buffer: &mut Vec<u8>) -> Properties {
    let mut read = parse_udev(read_once(udev, buffer).unwrap_or_default());
    let is_rotational = read_once(rotational, buffer).is_ok_and(|text| trim(text) == b"1");
    read.labels.info[5] = if is_rotational { "1" } else { "0" }.to_owned();
    read
}

/// Reads the properties (`E:KEY=value`) of one device in udev's database.
fn parse_udev(text: &[u8]) -> Properties {
    let property = |wanted: &str| {
        lines(text)
            .filter_map(|line| line.strip_prefix(b"E:")?.strip_prefix(wanted.as_bytes()))
            .find_map(|rest| rest.strip_prefix(b"="))
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .unwrap_or_default()
    };
    let first = |wanted: &[&str]| {
        wanted.iter().map(|key| property(key)).find(|value| !value.is_empty()).unwrap_or_default()
    };
    let number = |wanted| parse_f64(property(wanted).as_bytes());
    // A write cache is stated only by disks that answer ATA commands.
    let ata = !property("ID_ATA").is_empty();
    let ata_number = |wanted| if ata { number(wanted) } else { None };
    Properties {
        read_at: None,
        labels: DeviceLabels {
            info: [
                property("ID_MODEL"),
                property("ID_PATH"),
                property("ID_REVISION"),
                // What is printed on the disk, if anything knows it.
                first(&["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"]),
                property("ID_WWN"),
                String::new(),
            ],
            filesystem: [
                property("ID_FS_TYPE"),
                property("ID_FS_USAGE"),
                property("ID_FS_UUID"),
                property("ID_FS_VERSION"),
            ],
            mapper: [
                property("DM_NAME"),
                property("DM_UUID"),
                property("DM_VG_NAME"),
                property("DM_LV_NAME"),
                property("DM_LV_LAYER"),
            ],
        },
        ata: [
            ata_number("ID_ATA_WRITE_CACHE"),
            ata_number("ID_ATA_WRITE_CACHE_ENABLED"),
            ata_number("ID_ATA_ROTATION_RATE_RPM"),
        ],
    }
}
