// What others write into names and values is text on every page, never markup.

const PAYLOADS = ['<img src=x onerror="window.ran=1">', '<script>window.ran=1</script>', '"><svg onload=window.ran=1>'];

const quoted = (text) => `"${text.replace(/[\\"]/g, (sign) => `\\${sign}`)}"`;
const base64 = (text) => Buffer.from(text).toString('base64url');

async function send(method, url, lines) {
  const response = await fetch(url, { method, body: `${lines.join('\n')}\n` });
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${await response.text()}`);
}

/** One group whose key and values hold the payloads; also what the page of pushes shows. */
export async function pushPayloads(base) {
  const lines = PAYLOADS.map((payload, n) => `backup_bytes{note=${quoted(payload)},n="${n}"} ${n}`);
  await send('PUT', `${base}/metrics/job@base64/${base64(PAYLOADS[0])}/where@base64/${base64(PAYLOADS[1])}`, lines);
}

/** Hosts and metrics named by the payloads. */
async function importPayloads(base) {
  const lines = PAYLOADS.flatMap((payload) => [
    `injected{note=${quoted(payload)}} 1`,
    `node_load1{instance=${quoted(payload)},job="injected"} 1`,
    `node_uname_info{instance=${quoted(payload)},job="injected",sysname=${quoted(payload)},release=${quoted(payload)}} 1`,
    `{${quoted(payload)},note="name"} 1`,
  ]);
  await send('POST', `${base}/api/v1/import/prometheus`, lines);
}

export async function checkInjection({ base, open, check, demand }) {
  const shows = async (name, path, prepare) => {
    await check(`injection: ${name} shows foreign markup as text`, async () => {
      const { page, complaints, close } = await open(path);
      try {
        await prepare(page);
        await page.waitForFunction((text) => document.body.innerText.includes(text), '<img src=x');
        await page.waitForTimeout(500);
        const found = await page.evaluate(() => [
          globalThis.ran !== undefined,
          document.querySelectorAll('main img, main script, [onerror], [onload]').length,
        ]);
        demand(!found[0], 'a script ran');
        demand(found[1] === 0, `${found[1]} elements came out of text`);
        demand(complaints.length === 0, complaints.join(' | '));
      } finally {
        await close();
      }
    });
  };
  const query = (text) => `/explore?q=${encodeURIComponent(text)}&range=5m`;
  const legend = (page) => page.waitForSelector('.legend tbody tr');
  await check('injection: names and values with markup are stored', () => importPayloads(base));
  await shows('hosts', '/', (page) => page.waitForSelector('a.card:has-text("<img")'));
  await shows('host', `/host/${encodeURIComponent(PAYLOADS[0])}`, (page) => page.waitForSelector('h1'));
  await shows('explore', query('injected'), legend);
  await shows('explore, table', query('injected'), async (page) => {
    await legend(page);
    await page.click('#tab-table');
    await page.waitForSelector('#results table td.value');
  });
  await shows('explore, names', query(`{${quoted(PAYLOADS[0])}}`), legend);
  await shows('pushes', '/pushes', (page) => page.click('button.row'));
}
