// The page of hosts with five hundred of them: what it shows is known beforehand, see fleet.mjs.

import { createRequire } from 'node:module';
import { startFleet } from './fleet.mjs';

const HOSTS = 500;
const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
/** Only those that the fleet sends; others may be on the server. */
const OWN = 'instance=~"node-.*"';
/** Visible rows of a screen, and those kept ready above and below. */
const MOST_ROWS = 60;
/** Far above what it takes; whatever exceeds it is broken, not a busy machine. */
const PAINTED_MS = 10_000;

const address = (params) => `/hosts?${new URLSearchParams(params)}`;
const row = (host) => `tr[data-host="${host.instance}"]`;

export async function checkHosts({ base, browser, open, check, demand }) {
  let fleet = null;
  await check(`fleet: ${HOSTS} hosts are stored`, async () => {
    fleet = await startFleet(base, HOSTS);
  });
  if (fleet === null) return;
  const { hosts } = fleet;
  const visible = (page) => page.$$eval('tr[data-host]', (rows) => rows.map(({ dataset }) => dataset.host));
  const matched = async (page, count) => {
    await page.waitForFunction((wanted) => document.querySelector('table')?.getAttribute('aria-rowcount') === wanted, String(count + 1));
  };
  const within = async (path, body, options) => {
    const { page, complaints, close } = await open(path, options);
    try {
      await body(page);
      demand(complaints.length === 0, complaints.join(' | '));
    } finally {
      await close();
    }
  };
  const byName = new Map(hosts.map((host) => [host.instance, host]));
  /** Waits until the first twenty rows are those with the largest amounts; equal ones may stand in any order. */
  const awaitTop = async (page, what, amount) => {
    const wanted = hosts.map(amount).sort((a, b) => b - a).slice(0, 20).join(' ');
    let shown = '';
    for (const begin = Date.now(); Date.now() - begin < 10_000; await page.waitForTimeout(100)) {
      shown = (await visible(page)).slice(0, 20).map((name) => amount(byName.get(name))).join(' ');
      if (shown === wanted) return;
    }
    throw new Error(`${what}: the first have ${shown}, not ${wanted}`);
  };

  await check('fleet: many hosts are a table, soon, and only rows in sight are in the page', async () => {
    await within('/', async (page) => {
      const begin = Date.now();
      await page.reload({ waitUntil: 'commit' });
      await page.waitForSelector('[data-column="cpu"] .meter');
      const took = Date.now() - begin;
      console.log(`  ${HOSTS} hosts painted with their figures ${took} ms after opening`);
      demand(took < PAINTED_MS, `it took ${took} ms`);
      demand(Number(await page.getAttribute('table', 'aria-rowcount')) > HOSTS, 'not all hosts are counted');
      demand((await visible(page)).length <= MOST_ROWS, `${(await visible(page)).length} rows are in the page`);
      await page.fill('input[type="search"]', OWN);
      await matched(page, HOSTS);
      await page.$eval('.scroll', (element) => element.scrollTo(0, element.scrollHeight));
      await page.waitForSelector(row(hosts[HOSTS - 1]));
      demand((await visible(page)).length <= MOST_ROWS, `${(await visible(page)).length} rows are in the page at the end`);
      demand((await page.$(row(hosts[0]))) === null, 'the first row is still in the page');
    });
  });

  await check('fleet: the table shows what the hosts sent', async () => {
    await within(address({ view: 'table', q: OWN, cols: 'cpu,load,memory,swap,disk,io,in,out,cores,ram,os,kernel,label:zone' }), async (page) => {
      await page.waitForFunction(() => document.querySelector('[data-column="kernel"]')?.textContent.trim());
      await page.waitForFunction(() => /\d/.test(document.querySelector('[data-column="disk"]')?.textContent ?? ''));
      for (const n of [7, 12, 15]) {
        const host = hosts[n];
        const rate = (bits, units) => {
          const power = Math.max(0, Math.min(units.length - 1, Math.floor(Math.log(bits) / Math.log(units.step))));
          return `${Number((bits / units.step ** power).toPrecision(3))} ${units[power]}`;
        };
        const bytes = Object.assign(['B/s', 'KiB/s', 'MiB/s'], { step: 1024 });
        const bits = Object.assign(['b/s', 'kb/s', 'Mb/s', 'Gb/s'], { step: 1000 });
        const wanted = {
          cpu: `${host.cpu.toFixed(1)} %`,
          load: host.load.toFixed(2),
          memory: `${host.memory.toFixed(1)} %`,
          swap: host.swap === null ? '–' : `${host.swap.toFixed(1)} %`,
          disk: `${host.disk.toFixed(1)} %`,
          io: rate(host.read + host.written, bytes),
          in: rate(host.received * 8, bits),
          out: rate(host.sent * 8, bits),
          cores: '4',
          ram: '100 GiB',
          os: `${host.os.name.replace(/ (GNU\/)?Linux$/, '')} ${host.os.version_id}`,
          kernel: host.kernel,
          'label:zone': host.labels.zone,
        };
        const shown = await page.$eval(row(host), (element) =>
          Object.fromEntries([...element.querySelectorAll('[data-column]')].map((cell) => [cell.dataset.column, cell.textContent.trim()])),
        );
        const told = Object.keys(wanted).filter((id) => shown[id] !== wanted[id]).map((id) => `${id} is ${shown[id]}, not ${wanted[id]}`);
        demand(told.length === 0, `${host.instance}: ${told.join('; ')}`);
      }
    });
  });

  await check('fleet: a click on a title sorts, another turns the order around, and the address keeps it', async () => {
    await within(address({ view: 'table', q: OWN }), async (page) => {
      await page.waitForFunction(() => /\d %/.test(document.querySelector('[data-column="disk"]')?.textContent ?? ''));
      await page.click('th button:has-text("CPU")');
      await awaitTop(page, 'by CPU', ({ cpu }) => cpu);
      await page.click('th button:has-text("CPU")');
      await page.waitForURL(/order=reverse/);
      await awaitTop(page, 'the other way round', ({ cpu }) => -cpu);
      await page.click('th button:has-text("Fullest disk")');
      await page.waitForURL((url) => url.searchParams.get('sort') === 'disk' && !url.searchParams.has('order'));
      await page.reload();
      await awaitTop(page, 'by disk, after a reload', ({ disk }) => disk);
    });
  });

  await check('fleet: matchers and words find the right hosts', async () => {
    await within(address({ view: 'table' }), async (page) => {
      for (const [text, test] of [
        ['zone="eu-1" rack!="r5" job="node"', ({ labels }) => labels.zone === 'eu-1' && labels.rack !== 'r5' && labels.job === 'node'],
        ['{zone=~"us-.",instance=~"node-00.*"}', ({ labels, instance }) => labels.zone.startsWith('us-') && instance.startsWith('node-00')],
        ['NODE-03 alpine', ({ instance, os }) => instance.startsWith('node-03') && os.name.startsWith('Alpine')],
      ]) {
        await page.fill('input[type="search"]', text);
        const found = hosts.filter(test);
        await matched(page, found.length);
        const shown = await visible(page);
        demand(shown.every((name, i) => name === found[i].instance), `${text} shows ${shown.slice(0, 5)}`);
        demand(new URL(page.url()).searchParams.get('q') === text, `the address is ${page.url()}`);
      }
      await page.fill('input[type="search"]', 'zone=~"("');
      await page.waitForSelector('.fault:has-text("regular expression")');
      await page.fill('input[type="search"]', 'no-such-host');
      await page.waitForSelector('.message');
    });
  });

  await check('fleet: a host that fell silent is late, and still found by its labels', async () => {
    const line = `node_load1{instance="silent-1",job="node",zone="attic"} 1 ${Date.now() - 150_000}\n`;
    const response = await fetch(`${base}/api/v1/import/prometheus`, { method: 'POST', body: line });
    demand(response.ok, `import answered ${response.status}`);
    await within(address({ view: 'table', q: 'zone="attic"' }), async (page) => {
      await page.waitForSelector('tr[data-host="silent-1"].late .seen:has-text("Late")');
      await matched(page, 1);
    });
  });

  await check('fleet: new figures come without new rows', async () => {
    await within(address({ view: 'table', q: OWN }), async (page) => {
      await page.waitForSelector(row(hosts[3]));
      await page.$$eval('tr[data-host]', (rows) => rows.forEach((element) => (element.marked = true)));
      const seen = () => page.textContent(`${row(hosts[3])} .seen`);
      const before = await seen();
      await page.waitForFunction(([selector, text]) => document.querySelector(selector)?.textContent !== text, [`${row(hosts[3])} .seen`, before]);
      demand(await page.$$eval('tr[data-host]', (rows) => rows.every((element) => element.marked)), 'rows were made anew');
    });
  });

  for (const theme of ['dark', 'light']) {
    await check(`fleet: the heat map has a tile for each host, in the colour of its value, ${theme}`, async () => {
      await within(
        address({ view: 'map', q: OWN, group: 'zone' }),
        async (page) => {
          await page.waitForFunction((count) => document.querySelectorAll('a.tile').length === count, HOSTS);
          await page.waitForSelector('a.tile:not(.empty)');
          const { stops, tiles, groups } = await page.evaluate(() => ({
            stops: [0, 1, 2, 3].map((i) => getComputedStyle(document.documentElement).getPropertyValue(`--heat-${i}`).trim()),
            tiles: [...document.querySelectorAll('a.tile')].map((tile) => [tile.dataset.host, getComputedStyle(tile).backgroundColor]),
            groups: [...document.querySelectorAll('.map section')].map((section) => section.querySelectorAll('a.tile').length),
          }));
          demand(groups.join() === '100,100,100,100,100', `the groups have ${groups} tiles`);
          const colours = new Map(tiles);
          const wrong = hosts.filter(({ instance, cpu }) => distance(colours.get(instance), between(stops, cpu / 100)) > 3);
          demand(wrong.length === 0, `${wrong.length} colours are wrong, such as ${colours.get(wrong[0]?.instance)} for ${wrong[0]?.cpu} %`);
        },
        { theme },
      );
    });
  }

  await check('fleet: a tile tells its host, takes keys, and leads there', async () => {
    await within(address({ view: 'map', q: OWN, metric: 'memory' }), async (page) => {
      await page.waitForFunction((count) => document.querySelectorAll('a.tile:not(.empty)').length === count, HOSTS);
      const tile = (n) => `a.tile[data-host="${hosts[n].instance}"]`;
      await page.hover(tile(42));
      await page.waitForSelector(`.tip:has-text("${hosts[42].instance}"):has-text("${hosts[42].memory.toFixed(1)} %")`);
      const name = await page.getAttribute(tile(42), 'aria-label');
      demand(name === `${hosts[42].instance}: Memory ${hosts[42].memory.toFixed(1)} %, Live`, `its name is ${name}`);
      await page.focus(tile(0));
      await page.keyboard.press('ArrowRight');
      const focused = () => page.evaluate(() => document.activeElement?.dataset.host);
      demand((await focused()) === hosts[1].instance, `right of the first is ${await focused()}`);
      await page.keyboard.press('ArrowDown');
      const [above, below] = await Promise.all([tile(1), ':focus'].map(async (selector) => (await page.$(selector)).boundingBox()));
      demand(below.y > above.y && below.x === above.x, 'down is not below');
      await page.keyboard.press('ArrowUp');
      await page.keyboard.press('Enter');
      await page.waitForURL(new RegExp(`/host/${hosts[1].instance}`));
    });
  });

  await check('fleet: a saved view survives a reload, is there for others, and can be changed and deleted', async () => {
    const view = { view: 'map', q: 'zone="eu-1"', metric: 'disk', group: 'rack' };
    await within(address(view), async (page) => {
      await page.waitForSelector('a.tile');
      const menu = 'details:has(input[name="view"]), details:has(summary:has-text("Saved views"))';
      await page.click('summary:has-text("Saved views")');
      await page.fill('input[name="view"]', 'Disks in eu-1');
      await page.click(`${menu} >> button[type="submit"]`);
      await page.waitForURL((url) => url.searchParams.get('saved') === 'Disks in eu-1');
      await page.reload();
      await page.waitForSelector('summary:has-text("Disks in eu-1")');
    });
    await within('/', async (page) => {
      await page.click('summary:has-text("Saved views")');
      await page.click('button.view:has-text("Disks in eu-1")');
      await page.waitForFunction(() => document.querySelectorAll('a.tile').length === 100);
      const params = new URL(page.url()).searchParams;
      for (const [name, value] of Object.entries(view)) demand(params.get(name) === value, `${name} is ${params.get(name)}`);
      await page.selectOption('select[name="metric"]', 'memory');
      await page.click('summary:has-text("(changed)")');
      await page.click('button:has-text("Save changes")');
      await page.waitForSelector('summary:has-text("Disks in eu-1"):not(:has-text("changed"))');
      await page.click('summary:has-text("Disks in eu-1")');
      await page.click('button[aria-label="Delete the view Disks in eu-1"]');
      await page.click('button[aria-label^="Delete the view Disks in eu-1: "]');
      await page.waitForSelector('button.view:has-text("Disks in eu-1")', { state: 'detached' });
    });
  });

  await check('fleet: columns are chosen, and the address keeps them', async () => {
    await within(address({ view: 'table', q: OWN }), async (page) => {
      await page.waitForSelector('tr[data-host]');
      await page.click('summary:has-text("Columns")');
      await page.click('label:has-text("Swap") input');
      await page.click('label:has-text("rack") input');
      await page.waitForSelector('th:has-text("rack")');
      await page.reload();
      await page.waitForSelector(`${row(hosts[3])} [data-column="label:rack"]:has-text("r3")`);
      demand((await page.$('th:has-text("Swap")')) === null, 'Swap is still there');
    });
  });

  for (const [shape, settled] of [['table', '[data-column="cpu"] .meter'], ['map', 'a.tile:not(.empty)']]) {
    for (const theme of ['dark', 'light']) {
      await check(`fleet: axe finds nothing serious on the ${shape}, ${theme}`, async () => {
        const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, bypassCSP: true });
        try {
          const page = await context.newPage();
          await page.addInitScript((chosen) => localStorage.setItem('watchfire.theme', JSON.stringify(chosen)), theme);
          await page.goto(base + address({ view: shape, q: OWN, group: 'zone' }));
          await page.waitForSelector(settled);
          await page.addScriptTag({ path: AXE });
          const { violations } = await page.evaluate(() => globalThis.axe.run());
          const found = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
          demand(found.length === 0, found.map(({ id, nodes }) => `${id} (${nodes.length}: ${nodes[0]?.target.join(' ')})`).join('; '));
        } finally {
          await context.close();
        }
      });
    }
    await check(`fleet: the ${shape} does not overflow at 800 px`, async () => {
      await within(
        address({ view: shape, q: OWN, group: 'zone' }),
        async (page) => {
          await page.waitForSelector(settled);
          const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          demand(excess <= 0, `${excess} px too wide`);
        },
        { width: 800, language: 'zh' },
      );
    });
  }
  fleet.stop();
}

/** The colour at `share` of a gradient through evenly spaced `#rrggbb` stops, as numbers. */
function between(stops, share) {
  const place = share * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(place));
  const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const [a, b] = [channels(stops[low]), channels(stops[low + 1])];
  return a.map((value, i) => value + (b[i] - value) * (place - low));
}

/** How far an `rgb(…)` is from a colour, in its most different channel; a rounded percent may move it a little. */
function distance(text, colour) {
  const found = (/^rgb\(([^)]+)\)$/.exec(text ?? '')?.[1] ?? '').split(/[ ,]+/).map(Number);
  return found.length === 3 ? Math.max(...found.map((value, i) => Math.abs(value - colour[i]))) : Infinity;
}
