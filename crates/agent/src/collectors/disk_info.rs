//! What udev and sysfs know about block devices: models, serial numbers, filesystems.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::collector::Cadence;
use crate::config::AgentConfig;
use crate::proc_reader::{lines, parse_f64, read_once, trim};
use crate::series::{Family, Keyed, Samples};

const INFO: Family = Family::gauge("node_disk_info", "Info of /sys/block/<block_device>.");
const FILESYSTEM_INFO: Family =
    Family::gauge("node_disk_filesystem_info", "Info about disk filesystem.");
const DEVICE_MAPPER_INFO: Family =
    Family::gauge("node_disk_device_mapper_info", "Info about disk device mapper.");
const ATA_WRITE_CACHE: Family =
    Family::gauge("node_disk_ata_write_cache", "ATA disk has a write cache.");
const ATA_WRITE_CACHE_ENABLED: Family =
    Family::gauge("node_disk_ata_write_cache_enabled", "ATA disk has its write cache enabled.");
const ATA_ROTATION_RATE: Family = Family::gauge(
    "node_disk_ata_rotation_rate_rpm",
    "ATA disk rotation rate in RPMs (0 for SSDs).",
);

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
        let row = self.devices.row(name);
        let device = || String::from_utf8_lossy(name).into_owned();
        if row.extra.read_at != self.round {
            let text =
                read_once(&self.udev_root.join(format!("b{major}:{minor}")), &mut self.buffer)
                    .unwrap_or_default();
            let mut read = parse_udev(text);
            let rotational = self.block_root.join(device()).join("queue/rotational");
            let rotational = read_once(&rotational, &mut self.buffer).map(trim);
            read.labels.info[5] =
                if rotational.is_ok_and(|text| text == b"1") { "1" } else { "0" }.to_owned();
            if read.labels != row.extra.labels {
                row.series[..3].iter_mut().filter_map(Option::take).for_each(|s| out.release(s));
            }
            row.extra = Properties { read_at: self.round, ..read };
        }
        let labels = &row.extra.labels;
        out.put(&mut row.series[0], 1.0, |out| {
            let [model, path, revision, serial, wwn, rotational] = &labels.info;
            out.register(
                &INFO,
                &[
                    ("device", &device()),
                    ("major", &major.to_string()),
                    ("minor", &minor.to_string()),
                    ("model", model),
                    ("path", path),
                    ("revision", revision),
                    ("rotational", rotational),
                    ("serial", serial),
                    ("wwn", wwn),
                ],
            )
        });
        let [kind, usage, uuid, version] = &labels.filesystem;
        if !kind.is_empty() {
            out.put(&mut row.series[1], 1.0, |out| {
                let own = [("type", kind), ("usage", usage), ("uuid", uuid), ("version", version)];
                let device = device();
                let own = own.iter().map(|(name, value)| (*name, value.as_str()));
                let all: Vec<_> = own.chain([("device", device.as_str())]).collect();
                out.register(&FILESYSTEM_INFO, &all)
            });
        }
        let [name, uuid, vg_name, lv_name, lv_layer] = &labels.mapper;
        if !name.is_empty() {
            out.put(&mut row.series[2], 1.0, |out| {
                let labels = [
                    ("device", &*device()),
                    ("name", name),
                    ("uuid", uuid),
                    ("vg_name", vg_name),
                    ("lv_name", lv_name),
                    ("lv_layer", lv_layer),
                ];
                out.register(&DEVICE_MAPPER_INFO, &labels)
            });
        }
        let families = [ATA_WRITE_CACHE, ATA_WRITE_CACHE_ENABLED, ATA_ROTATION_RATE];
        for (at, family) in families.iter().enumerate() {
            if let Some(value) = row.extra.ata[at] {
                out.put(&mut row.series[3 + at], value, |out| {
                    out.register(family, &[("device", &device())])
                });
            }
        }
    }

    pub(crate) fn finish(&mut self, out: &mut Samples) {
        self.devices.finish(out);
    }
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
