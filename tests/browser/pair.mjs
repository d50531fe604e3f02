// A host that two Prometheus collect: its series are there twice, apart by a label of theirs, and count once.

const INSTANCE = 'pair-1:9100';
const GIB = 2 ** 30;
/** As rounding has it. */
const MEGABIT = '(1(\\.0\\d?)? ?M|99\\d(\\.\\d)? ?k)b/s';

/** What both have of the host at one moment. */
function lines(second) {
  const own = (replica, labels = '') => `instance="${INSTANCE}",job="pair",replica="${replica}"${labels}`;
  const disk = ',device="/dev/vda",mountpoint="/srv",fstype="ext4"';
  return ['a', 'b'].flatMap((replica) => [
    `node_load1{${own(replica)}} 1.5`,
    `node_load5{${own(replica)}} 1.25`,
    `node_memory_MemTotal_bytes{${own(replica)}} ${8 * GIB}`,
    `node_memory_MemFree_bytes{${own(replica)}} ${2 * GIB}`,
    `node_filesystem_size_bytes{${own(replica, disk)}} ${100 * GIB}`,
    `node_filesystem_free_bytes{${own(replica, disk)}} ${60 * GIB}`,
    `node_filesystem_avail_bytes{${own(replica, disk)}} ${60 * GIB}`,
    ...['0', '1'].flatMap((cpu) =>
      ['idle', 'user'].map((mode) => `node_cpu_seconds_total{${own(replica, `,cpu="${cpu}",mode="${mode}"`)}} ${second / 2}`),
    ),
    `node_network_receive_bytes_total{${own(replica, ',device="eth0"')}} ${second * 125_000}`,
  ]);
}

export async function checkPair({ base, open, check, demand }) {
  let isOver = false;
  const begun = Date.now();
  const feed = async () => {
    while (!isOver) {
      const at = Date.now();
      const text = lines((at - begun) / 1000).map((line) => `${line} ${at}\n`).join('');
      const response = await fetch(`${base}/api/v1/import/prometheus`, { method: 'POST', body: text });
      if (!response.ok) throw new Error(`import answered ${response.status}`);
      await new Promise((done) => setTimeout(done, 1000));
    }
  };
  const feeding = feed();
  // Told by the last check; until then nobody waits for it.
  feeding.catch(() => {});
  await check('pair: what two Prometheus collect of a host is counted and listed once', async () => {
    const { page, complaints, close } = await open(`/host/${encodeURIComponent(INSTANCE)}?job=pair`);
    try {
      await page.waitForSelector('#filesystems tbody tr');
      await page.waitForFunction(() => document.querySelector('.facts')?.textContent.includes('2 cores'));
      const legend = (section, pattern) =>
        page.waitForFunction(
          ([id, wanted]) => [...document.querySelectorAll(`#${id} .legend button`)].some((entry) => new RegExp(wanted).test(entry.textContent)),
          [section, pattern],
        );
      await legend('load', '1 min 1\\.5');
      await legend('memory', 'Free 2(\\.00)? GiB');
      await legend('network', `eth0 in ${MEGABIT}`);
      const mounts = await page.$$eval('#filesystems td.mount', (cells) => cells.map((cell) => cell.textContent.trim()));
      demand(mounts.join() === '/srv', `filesystems are ${mounts}`);
      demand(complaints.length === 0, complaints.join(' | '));
    } finally {
      await close();
    }
  });
  await check('pair: the card of the host counts once, too', async () => {
    const { page, complaints, close } = await open(`/?view=cards&q=${encodeURIComponent('job="pair"')}`);
    try {
      await page.waitForFunction(() => /2 cores.*8(\.00)? GiB/.test(document.querySelector('a.card')?.textContent ?? ''));
      await page.waitForFunction((wanted) => new RegExp(`\\D${wanted}`).test(document.querySelector('a.card')?.textContent ?? ''), MEGABIT);
      demand((await page.$$('a.card')).length === 1, 'there is more than one card');
      demand(complaints.length === 0, complaints.join(' | '));
    } finally {
      await close();
    }
  });
  isOver = true;
  await check('pair: all samples were taken', () => feeding);
}
