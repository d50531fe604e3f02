//! What the configuration says about single collectors.

use serde::Deserialize;

use crate::pattern::Pattern;

/// Defines the settings of one collector: a struct with public, optional fields.
macro_rules! settings {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)+
        }
    };
}

settings! {
    /// Options of collectors, each named as the collector, with the names of Node Exporter's
    /// flags: `--collector.netdev.device-include` is `netdev: {device_include: …}`. The default
    /// of every field is Node Exporter's.
    CollectorSettings {
        /// Neighbours of the network.
        arp: DeviceSettings,
        /// Block caches.
        bcache: BcacheSettings,
        /// What CPUs say about themselves.
        cpu_info: CpuInfoSettings,
        /// Block devices.
        diskstats: DeviceSettings,
        /// Mounted filesystems.
        filesystem: FilesystemSettings,
        /// Sensors.
        hwmon: HwmonSettings,
        /// Interrupts by CPU.
        interrupts: InterruptsSettings,
        /// Virtual servers.
        ipvs: IpvsSettings,
        /// Properties of network devices.
        netclass: NetclassSettings,
        /// Traffic of network devices.
        netdev: DeviceSettings,
        /// Counters of network protocols.
        netstat: FieldSettings,
        /// PCI devices.
        pcidevice: PcideviceSettings,
        /// Batteries and mains.
        powersupplyclass: PowersupplySettings,
        /// Processes by name.
        process_group: ProcessGroupSettings,
        /// Queueing disciplines.
        qdisc: DeviceSettings,
        /// Energy meters.
        rapl: RaplSettings,
        /// Slabs of the kernel.
        slabinfo: SlabinfoSettings,
        /// Kernel parameters.
        sysctl: SysctlSettings,
        /// Units of systemd.
        systemd: SystemdSettings,
        /// Tape drives.
        tapestats: TapestatsSettings,
        /// Counters of virtual memory.
        vmstat: FieldSettings,
    }
}

settings! {
    /// Which devices are taken. An include lifts the default exclusion.
    DeviceSettings {
        /// Takes only these.
        device_include: Option<Pattern>,
        /// Leaves these out.
        device_exclude: Option<Pattern>,
    }
}

settings! {
    /// Of `bcache`.
    BcacheSettings {
        /// Also reads priority statistics, which costs the device much work.
        priority_stats: bool,
    }
}

settings! {
    /// Of `cpu_info`.
    CpuInfoSettings {
        /// Adds `node_cpu_flag_info` for these flags.
        flags_include: Option<Pattern>,
        /// Adds `node_cpu_bug_info` for these bugs.
        bugs_include: Option<Pattern>,
    }
}

settings! {
    /// Of `filesystem`.
    FilesystemSettings {
        /// Takes only these mount points.
        mount_points_include: Option<Pattern>,
        /// Leaves these mount points out.
        mount_points_exclude: Option<Pattern>,
        /// Takes only these types.
        fs_types_include: Option<Pattern>,
        /// Leaves these types out.
        fs_types_exclude: Option<Pattern>,
    }
}

settings! {
    /// Of `hwmon`.
    HwmonSettings {
        /// Takes only these chips.
        chip_include: Option<Pattern>,
        /// Leaves these chips out.
        chip_exclude: Option<Pattern>,
        /// Takes only these sensors, written `chip;sensor`.
        sensor_include: Option<Pattern>,
        /// Leaves these sensors out, written `chip;sensor`.
        sensor_exclude: Option<Pattern>,
    }
}

settings! {
    /// Of `interrupts`.
    InterruptsSettings {
        /// Takes only these, matched against `type;info;devices`.
        name_include: Option<Pattern>,
        /// Leaves these out.
        name_exclude: Option<Pattern>,
        /// Leaves out counts of zero.
        exclude_zeros: bool,
    }
}

settings! {
    /// Of `ipvs`.
    IpvsSettings {
        /// The labels of `node_ipvs_backend_*`; backends that agree in all are summed.
        backend_labels: Option<Vec<BackendLabel>>,
    }
}

/// A label of a backend of a virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendLabel {
    /// Address of the virtual server.
    LocalAddress,
    /// Port of the virtual server.
    LocalPort,
    /// Address of the backend.
    RemoteAddress,
    /// Port of the backend.
    RemotePort,
    /// Protocol of the virtual server.
    Proto,
    /// Firewall mark of the virtual server.
    LocalMark,
}

settings! {
    /// Of `netclass`.
    NetclassSettings {
        /// Leaves these devices out.
        ignored_devices: Option<Pattern>,
    }
}

settings! {
    /// Which fields of a table of the kernel are taken.
    FieldSettings {
        /// Takes only these, named as in the metric after its prefix.
        fields: Option<Pattern>,
    }
}

settings! {
    /// Of `pcidevice`.
    PcideviceSettings {
        /// Adds the names of vendors, devices and classes.
        names: bool,
        /// Where `pci.ids` lies; several usual places are tried if this is not given.
        idsfile: Option<std::path::PathBuf>,
    }
}

settings! {
    /// Of `powersupplyclass`.
    PowersupplySettings {
        /// Leaves these supplies out.
        ignored_supplies: Option<Pattern>,
    }
}

settings! {
    /// Of `process_group`.
    ProcessGroupSettings {
        /// Groups that are always shown, by the name of their command.
        names: Vec<String>,
        /// How many groups are shown besides: those that use the most CPU time, and as many by
        /// memory.
        top: Option<usize>,
    }
}

settings! {
    /// Of `rapl`.
    RaplSettings {
        /// One metric with the zone as a label instead of one metric per zone.
        enable_zone_label: bool,
    }
}

settings! {
    /// Of `slabinfo`.
    SlabinfoSettings {
        /// Takes only these slabs.
        slabs_include: Option<Pattern>,
        /// Leaves these slabs out.
        slabs_exclude: Option<Pattern>,
    }
}

settings! {
    /// Of `sysctl`.
    SysctlSettings {
        /// Parameters with numbers, such as `kernel.threads-max` or, for several numbers on one
        /// line, `fs.file-nr:total,current,max`.
        include: Vec<String>,
        /// Parameters with words.
        include_info: Vec<String>,
    }
}

settings! {
    /// Of `systemd`.
    SystemdSettings {
        /// Takes only these units.
        unit_include: Option<Pattern>,
        /// Leaves these units out.
        unit_exclude: Option<Pattern>,
        /// Adds `node_systemd_unit_tasks_current` and `node_systemd_unit_tasks_max`.
        enable_task_metrics: bool,
        /// Adds `node_systemd_service_restart_total`.
        enable_restarts_metrics: bool,
        /// Adds `node_systemd_unit_start_time_seconds`.
        enable_start_time_metrics: bool,
    }
}

settings! {
    /// Of `tapestats`.
    TapestatsSettings {
        /// Leaves these drives out.
        ignored_devices: Option<Pattern>,
    }
}
