#!/usr/bin/env node
// Many hosts, as Node Exporters on them would send: what the Hosts page reads, with values known beforehand.
//
//   node fleet.mjs http://127.0.0.1:9595 [HOSTS]
//
// Stores two minutes of the past and then goes on, every 15 s, until it is stopped.

export const INTERVAL_S = 15;
const PAST_S = 120;
const CORES = 4;
const GIB = 2 ** 30;
const ZONES = ['eu-1', 'eu-2', 'us-1', 'us-2', 'ap-1'];

/** What host `n` shows, whenever one looks. */
export function hostOf(n) {
  const cpu = (n * 37) % 101;
  return {
    instance: `node-${String(n).padStart(4, '0')}`,
    labels: { job: n % 10 === 9 ? 'db' : 'node', zone: ZONES[n % ZONES.length], rack: `r${n % 20}` },
    /** Percent. */
    cpu,
    memory: (n * 53) % 101,
    swap: n % 3 === 0 ? (n * 7) % 101 : null,
    disk: (n * 29) % 101,
    /** Load per core. */
    load: ((n * 11) % 60) / 20,
    /** Bytes per second. */
    read: (n % 50) * 1e5,
    written: (n % 25) * 2e5,
    received: (n % 100) * 1e6,
    sent: (n % 40) * 5e5,
    bootS: 1_700_000_000 + n,
    kernel: n % 2 === 0 ? '6.1.0-40-amd64' : '6.12.9-cloud',
    os: n % 4 === 0 ? { name: 'Alpine Linux', version_id: '3.22' } : { name: 'Debian GNU/Linux', version_id: '12' },
  };
}

const text = (labels) => Object.entries(labels).map(([name, value]) => `${name}="${value}"`).join(',');

/** The lines of one host at `second`. Counters grow evenly since the epoch, so every rate is known. */
export function* linesOf(host, second) {
  const own = text({ instance: host.instance, ...host.labels });
  const line = (metric, labels, value) => `${metric}{${own}${labels}} ${value} ${second * 1000}`;
  // Counters of a young host, not of the epoch: beyond 2^53 neighbouring values could not be told apart.
  const lived = second - host.bootS;
  yield line('node_load1', '', host.load * CORES);
  for (let core = 0; core < CORES; core++) {
    yield line('node_cpu_seconds_total', `,cpu="${core}",mode="idle"`, (lived * (100 - host.cpu)) / 100);
    yield line('node_cpu_seconds_total', `,cpu="${core}",mode="user"`, (lived * host.cpu) / 100);
    yield line('node_cpu_seconds_total', `,cpu="${core}",mode="system"`, 0);
    yield line('node_cpu_seconds_total', `,cpu="${core}",mode="iowait"`, 0);
  }
  yield line('node_memory_MemTotal_bytes', '', 100 * GIB);
  yield line('node_memory_MemAvailable_bytes', '', (100 - host.memory) * GIB);
  yield line('node_memory_SwapTotal_bytes', '', host.swap === null ? 0 : 100 * GIB);
  yield line('node_memory_SwapFree_bytes', '', host.swap === null ? 0 : (100 - host.swap) * GIB);
  for (const [mount, used] of [['/', host.disk], ['/boot', host.disk / 2]]) {
    const labels = `,device="/dev${mount}",mountpoint="${mount}",fstype="ext4"`;
    yield line('node_filesystem_size_bytes', labels, 100 * GIB);
    yield line('node_filesystem_free_bytes', labels, (100 - used) * GIB);
    yield line('node_filesystem_avail_bytes', labels, (100 - used) * GIB);
  }
  yield line('node_disk_read_bytes_total', ',device="sda"', lived * host.read);
  yield line('node_disk_written_bytes_total', ',device="sda"', lived * host.written);
  // The same bytes again on what lies on the disk; they must not count twice.
  yield line('node_disk_read_bytes_total', ',device="dm-0"', lived * host.read);
  yield line('node_network_receive_bytes_total', ',device="eth0"', lived * host.received);
  yield line('node_network_transmit_bytes_total', ',device="eth0"', lived * host.sent);
  yield line('node_network_receive_bytes_total', ',device="lo"', lived * 1e9);
  yield line('node_boot_time_seconds', '', host.bootS);
  yield line('node_uname_info', `,nodename="${host.instance}",sysname="Linux",machine="x86_64",release="${host.kernel}"`, 1);
  yield line('node_os_info', `,${text(host.os)}`, 1);
}

async function send(base, hosts, second) {
  const lines = hosts.flatMap((host) => [...linesOf(host, second)]);
  const response = await fetch(`${base}/api/v1/import/prometheus`, { method: 'POST', body: `${lines.join('\n')}\n` });
  if (!response.ok) throw new Error(`import answered ${response.status}: ${await response.text()}`);
  return lines.length;
}

/** Stores the past of `count` hosts, then goes on in the background; yields them and the function that ends it. */
export async function startFleet(base, count) {
  const hosts = Array.from({ length: count }, (_, n) => hostOf(n));
  const now = () => Math.floor(Date.now() / 1000 / INTERVAL_S) * INTERVAL_S;
  let last = now();
  let series = 0;
  for (let second = last - PAST_S; second <= last; second += INTERVAL_S) series = await send(base, hosts, second);
  let sending = false;
  const timer = setInterval(async () => {
    if (sending || now() === last) return;
    sending = true;
    try {
      for (; last < now(); last += INTERVAL_S) await send(base, hosts, last + INTERVAL_S);
    } catch (error) {
      console.error(`the fleet could not send: ${error.message}`);
    }
    sending = false;
  }, 500);
  return { hosts, series, stop: () => clearInterval(timer) };
}

if (process.argv[1] === import.meta.filename) {
  const base = (process.argv[2] ?? '').replace(/\/+$/, '');
  const count = Number(process.argv[3] ?? 500);
  if (!base || !Number.isInteger(count) || count < 1) {
    console.error('usage: node fleet.mjs URL [HOSTS]   (for example http://127.0.0.1:9595 500)');
    process.exit(2);
  }
  const { series } = await startFleet(base, count);
  console.log(`${count} hosts, ${series} series; every ${INTERVAL_S} s from now on`);
}
