#!/usr/bin/env node
// Opens every page of a running Watchfire in Debian's Chromium and looks at it as a user would.
//
//   node run.mjs http://127.0.0.1:9595 [SETUP_LINK [CLUSTER]]
//
// The link is the one that another server, which wants a login, printed when it started; CLUSTER is the URL of a
// broker of a cluster.
// One line per check, `name ok` or `name FAIL: why`; the last line counts them, the exit code says whether all passed.
// ALERTS_HOOK is the port that the server's receivers send to, see alerts.mjs.
// CHROMIUM names another browser, SCREENSHOTS a folder for a picture of each page.

import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { checkAlerts, postAlerts } from './alerts.mjs';
import { checkCardinality } from './cardinality.mjs';
import { checkBrokers, checkCluster, checkLeaving } from './cluster.mjs';
import { checkExplore, importDistributions } from './explore.mjs';
import { checkHosts } from './hosts.mjs';
import { checkInjection, pushPayloads } from './injection.mjs';
import { checkLogin } from './login.mjs';
import { address as logs, ALL as ALL_LINES, checkLogs, checkSilentTenant, lastLine, pushLines } from './logs.mjs';
import { checkPair } from './pair.mjs';
import { checkQueries } from './queries.mjs';
import { checkTenants } from './tenants.mjs';

const base = process.argv[2]?.replace(/\/+$/, '');
const setupLink = process.argv[3];
const clusterUrl = process.argv[4]?.replace(/\/+$/, '');
if (!base) {
  console.error('usage: node run.mjs URL [SETUP_LINK [CLUSTER]]   (for example http://127.0.0.1:9595)');
  process.exit(2);
}

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const TIMEOUT_MS = 15_000;
const QUERY = 'node_load1';

let passed = 0;
let failed = 0;

async function check(name, body) {
  try {
    await body();
    passed++;
    console.log(`${name} ok`);
  } catch (error) {
    failed++;
    const [first] = String(error?.message ?? error).split('\n');
    console.log(`${name} FAIL: ${first}`);
  }
}

function demand(condition, message) {
  if (!condition) throw new Error(message);
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: FLAGS,
});

/** A fresh page with its own storage, and everything it complained about. */
async function open(path, { theme = 'dark', language = 'en', width = 1440, height = 900, isFailing = false, timezoneId } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, timezoneId });
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  const complaints = [];
  page.on('console', (message) => {
    // Chromium complains about the status of the page that says 404.
    const isOwn404 = message.location().url === base + path && message.text().includes('404');
    // And about that of a query that is meant to fail.
    const isOwn400 = isFailing && message.text().includes('400');
    if (message.type() === 'error' && !isOwn400 && !(isOwn404 && path === '/no/such/page')) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(`uncaught ${error.message}`));
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (['http:', 'https:', 'ws:', 'wss:'].includes(url.protocol) && url.host !== new URL(base).host) {
      complaints.push(`asked the outside: ${request.url()}`);
    }
  });
  await page.addInitScript(
    ([chosenTheme, chosenLanguage]) => {
      addEventListener('securitypolicyviolation', (event) => {
        console.error(`CSP violation: ${event.violatedDirective} ${event.blockedURI}`);
      });
      // Only the first time: a reload must show what the page itself remembered.
      if (localStorage.getItem('watchfire.theme') === null) {
        localStorage.setItem('watchfire.theme', JSON.stringify(chosenTheme));
        localStorage.setItem('watchfire.language', JSON.stringify(chosenLanguage));
      }
    },
    [theme, language],
  );
  await page.goto(base + path);
  return { page, complaints, close: () => context.close() };
}

const SETTLED = {
  hosts: 'a.card h2',
  host: '[data-chart] canvas',
  explore: '.cm-content',
  logs: '.list .row',
  patterns: '[data-patterns] tbody tr',
  groups: '[data-groups] tbody tr',
  line: '.list .row.open tr',
  numbers: '#log-numbers td.value',
  alerts: '[data-rows]',
  rules: '[data-group]',
  silences: 'main .panel',
  receivers: '[data-receiver]',
  targets: 'h1, .message',
  agents: 'h1, .message',
  heatmap: 'canvas[data-heat]',
  table: '[data-histogram]',
  exemplars: '[data-exemplar]',
  explain: '[data-explain] tbody tr',
  queries: '[data-running]',
  cardinality: '.facts dd',
  pushes: 'ul.panel',
  cluster: '[data-verdict]',
  status: '.facts',
  access: 'section .none, section table',
  missing: 'main .code',
};

async function firstHost() {
  const { page, close } = await open('/');
  try {
    await page.waitForSelector(SETTLED.hosts);
    // The agent's own host, which sends each second, if it is there; any other moves more slowly.
    const own = await page.$('a.card:not(:has(.job))');
    return await (own ?? (await page.$('a.card'))).getAttribute('href');
  } finally {
    await close();
  }
}

let hostPath = '/host/unknown';
await check('a host is on the screen within 5 s', async () => {
  const started = Date.now();
  hostPath = await firstHost();
  demand(Date.now() - started < 5000, `it took ${Date.now() - started} ms`);
});

await check('lines are stored', () => pushLines(base));

const explored = (q, more) => `/explore?${new URLSearchParams({ q, range: '15m', ...more })}`;
const PAGES = [
  { name: 'hosts', path: '/' },
  { name: 'host', path: hostPath },
  { name: 'explore', path: `/explore?q=${encodeURIComponent(QUERY)}&range=5m` },
  { name: 'logs', path: logs(ALL_LINES, { fields: '1' }) },
  { name: 'patterns', path: logs(ALL_LINES, { tab: 'patterns' }) },
  { name: 'groups', path: logs(ALL_LINES, { tab: 'groups' }) },
  { name: 'line', path: logs(ALL_LINES, { line: lastLine(), wrap: '1', pretty: '1' }) },
  { name: 'numbers', path: logs(`sum by (app) (count_over_time(${ALL_LINES}[1h]))`, { tab: 'table' }) },
  { name: 'alerts', path: '/alerts' },
  { name: 'rules', path: '/rules' },
  { name: 'silences', path: '/silences' },
  { name: 'receivers', path: '/receivers' },
  { name: 'targets', path: '/targets' },
  { name: 'agents', path: '/agents' },
  { name: 'heatmap', path: explored('sum(rate(pay_duration_seconds[1m]))', { tab: 'heatmap' }) },
  { name: 'table', path: explored('pay_duration_seconds', { tab: 'table' }) },
  { name: 'exemplars', path: explored('rate(shop_request_seconds_bucket[1m])', { exemplars: '1' }) },
  { name: 'explain', path: explored('sum(rate(pay_duration_seconds[1m]))', { tab: 'explain' }) },
  { name: 'queries', path: '/queries' },
  { name: 'cardinality', path: '/cardinality' },
  { name: 'pushes', path: '/pushes' },
  { name: 'cluster', path: '/cluster' },
  { name: 'status', path: '/status' },
  { name: 'access', path: '/access' },
  { name: 'missing', path: '/no/such/page' },
];
/** Those that move; the others have settled once they are there. */
const LIVELY = ['hosts', 'host', 'explore'];

await check('alerts are posted', () => postAlerts(base));
await check('a group is pushed', () => pushPayloads(base));
await check('histograms and exemplars are stored', () => importDistributions(base));

async function seriousViolations(page) {
  await page.addScriptTag({ path: AXE });
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
}

/** Serves axe-core past the page's own CSP: the policy is the product's, the tool is ours. */
async function inspect(name, path, theme, language) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, bypassCSP: true });
  try {
    const page = await context.newPage();
    await page.addInitScript(
      (chosen) => chosen.forEach(([key, value]) => localStorage.setItem(`watchfire.${key}`, JSON.stringify(value))),
      [['theme', theme], ['language', language]],
    );
    await page.goto(base + path);
    await page.waitForSelector(SETTLED[name], { timeout: TIMEOUT_MS });
    await page.waitForTimeout(LIVELY.includes(name) ? 1500 : 300);
    const found = await seriousViolations(page);
    const told = found.map(({ id, nodes }) => `${id} (${nodes.length}: ${nodes[0]?.target.join(' ')})`).join('; ');
    demand(found.length === 0, told);
  } finally {
    await context.close();
  }
}

for (const { name, path } of PAGES) {
  await check(`${name}: opens without errors or CSP violations`, async () => {
    const { page, complaints, close } = await open(path);
    try {
      await page.waitForSelector(SETTLED[name]).catch(async () => {
        const shown = (await page.innerText('body')).replace(/\s+/g, ' ').slice(0, 300);
        throw new Error(`${SETTLED[name]} does not come; ${complaints.join(' | ')}; the page says: ${shown}`);
      });
      await page.waitForTimeout(LIVELY.includes(name) ? 2500 : 300);
      if (process.env.SCREENSHOTS) {
        mkdirSync(process.env.SCREENSHOTS, { recursive: true });
        await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
      }
      demand(complaints.length === 0, complaints.join(' | '));
    } finally {
      await close();
    }
  });
  for (const [theme, language] of [['dark', 'en'], ['light', 'zh']]) {
    const how = `${theme}, ${language === 'en' ? 'English' : 'Chinese'}`;
    await check(`${name}: axe finds nothing serious, ${how}`, () => inspect(name, path, theme, language));
  }
  await check(`${name}: nothing overflows sideways at 800 px`, async () => {
    const { page, close } = await open(path, { width: 800 });
    try {
      await page.waitForSelector(SETTLED[name]);
      await page.waitForTimeout(LIVELY.includes(name) ? 800 : 200);
      const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      demand(excess <= 0, `${excess} px too wide`);
    } finally {
      await close();
    }
  });
}

/** What a canvas shows, as text; equal texts are equal pictures. */
const picture = (page, selector) =>
  page.$eval(selector, (canvas) => (canvas instanceof HTMLCanvasElement ? canvas.toDataURL() : ''));

await check('host: a line moves and its newest value is new', async () => {
  const { page, close } = await open(hostPath);
  try {
    await page.waitForSelector('[data-chart] canvas');
    await page.waitForSelector('.legend .value');
    await page.waitForTimeout(2500);
    const figures = () => page.$$eval('.legend .value, td.right', (cells) => cells.map((cell) => cell.textContent).join(' '));
    const before = [await picture(page, '[data-chart] canvas'), await figures()];
    await page.waitForTimeout(3000);
    const after = [await picture(page, '[data-chart] canvas'), await figures()];
    demand(before[0] !== after[0], 'the chart stood still');
    demand(before[1] !== after[1], 'all figures stayed the same');
  } finally {
    await close();
  }
});

/** Of this host, which sends each second; scraped ones stand still in between. */
const OWN_SPARK = 'a.card:not(:has(.job)) canvas[data-spark]';

await check('hosts: a sparkline moves', async () => {
  const { page, close } = await open('/');
  try {
    await page.waitForSelector(OWN_SPARK);
    await page.waitForTimeout(2000);
    const before = await picture(page, OWN_SPARK);
    await page.waitForTimeout(3000);
    demand(before !== (await picture(page, OWN_SPARK)), 'the sparkline stood still');
  } finally {
    await close();
  }
});

await check('host: space pauses and resumes', async () => {
  const { page, close } = await open(hostPath);
  try {
    await page.waitForSelector('[data-chart] canvas');
    await page.waitForTimeout(1500);
    await page.keyboard.press('Space');
    await page.waitForURL(/from=\d+&to=\d+/);
    await page.waitForTimeout(2000);
    const before = await picture(page, '[data-chart] canvas');
    await page.waitForTimeout(2000);
    demand(before === (await picture(page, '[data-chart] canvas')), 'the paused chart moved');
    await page.keyboard.press('Space');
    await page.waitForURL(/range=/);
  } finally {
    await close();
  }
});

await check('host: dragging zooms in, double-click zooms out', async () => {
  const { page, close } = await open(hostPath);
  try {
    const over = await page.waitForSelector('[data-chart] .u-over');
    await page.waitForTimeout(1500);
    const box = await over.boundingBox();
    await page.mouse.move(box.x + box.width * 0.4, box.y + 40);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.7, box.y + 50, { steps: 5 });
    await page.mouse.up();
    await page.waitForURL(/from=\d+&to=\d+/);
    const span = () => page.evaluate(() => {
      const params = new URLSearchParams(location.search);
      return Number(params.get('to')) - Number(params.get('from'));
    });
    const zoomed = await span();
    demand(zoomed > 60_000 && zoomed < 120_000, `30 % of 5 min became ${zoomed} ms`);
    await page.mouse.dblclick(box.x + box.width * 0.5, box.y + 40);
    await page.waitForFunction((old) => {
      const params = new URLSearchParams(location.search);
      return Number(params.get('to')) - Number(params.get('from')) > old * 1.5;
    }, zoomed);
  } finally {
    await close();
  }
});

await check('explore: a typed query runs and shows a graph and a table', async () => {
  const { page, complaints, close } = await open('/explore');
  try {
    await page.click('.cm-content');
    await page.keyboard.type(QUERY);
    await page.keyboard.press('Control+Enter');
    await page.waitForURL(/q=node_load1/);
    await page.waitForSelector('[data-chart] canvas');
    await page.waitForSelector('.legend tbody tr');
    await page.click('#tab-table');
    await page.waitForSelector('#results table td.value');
    const value = await page.textContent('#results table td.value');
    demand(/^\s*\d/.test(value ?? ''), `the table shows ${value}`);
    demand(complaints.length === 0, complaints.join(' | '));
  } finally {
    await close();
  }
});

await check('explore: an error is shown with its place', async () => {
  const { page, close } = await open(`/explore?q=${encodeURIComponent('sum by (mode (rate(x[5m]))')}`);
  try {
    const text = await page.textContent('.error pre');
    demand(/\n\s*\^/.test(text ?? ''), 'no caret under the error');
    await page.waitForSelector('.cm-lintRange-error');
  } finally {
    await close();
  }
});

await check('explore: completion offers metric names', async () => {
  const { page, close } = await open('/explore');
  try {
    await page.click('.cm-content');
    await page.keyboard.type('node_loa');
    await page.waitForSelector('.cm-tooltip-autocomplete li:has-text("node_load1")');
  } finally {
    await close();
  }
});

await check('the language switches and is remembered', async () => {
  const { page, close } = await open('/');
  try {
    await page.click('[data-action="language"]');
    // The texts of the other language are a file of their own, so the change takes a moment.
    await page.waitForSelector('nav a:text-is("主机")');
    await page.reload();
    await page.waitForSelector('nav a');
    demand((await page.textContent('nav a')) === '主机', 'forgotten after a reload');
    demand((await page.getAttribute('html', 'lang')) === 'zh-CN', 'the document is not marked as Chinese');
  } finally {
    await close();
  }
});

await check('the theme switches and is remembered', async () => {
  const { page, close } = await open('/', { theme: 'dark' });
  try {
    const ground = () => page.evaluate(() => getComputedStyle(document.body.parentElement).backgroundColor);
    const dark = await ground();
    await page.click('[data-action="theme"]');
    await page.waitForSelector('html[data-theme="light"]');
    const light = await ground();
    demand(dark !== light, 'the ground kept its colour');
    await page.reload();
    await page.waitForSelector('nav a');
    demand((await ground()) === light, 'forgotten after a reload');
  } finally {
    await close();
  }
});

await check('keys: g e, g h, g p, ? and Ctrl-K, and the menu', async () => {
  const { page, close } = await open('/');
  try {
    await page.waitForSelector(SETTLED.hosts);
    await page.keyboard.press('g');
    await page.keyboard.press('e');
    await page.waitForURL(/\/explore$/);
    await page.waitForSelector('.cm-content');
    await page.keyboard.press('g');
    await page.keyboard.press('h');
    await page.waitForSelector(SETTLED.hosts);
    await page.click('nav summary');
    await page.click('nav details a[href="/status"]');
    await page.waitForSelector(SETTLED.status);
    await page.keyboard.press('g');
    await page.keyboard.press('p');
    await page.waitForSelector(SETTLED.pushes);
    await page.keyboard.press('?');
    await page.waitForSelector('dialog[open] kbd');
    await page.keyboard.press('Escape');
    await page.keyboard.press('Control+k');
    await page.waitForSelector('dialog[open] [role="combobox"]');
    await page.keyboard.type('explore');
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/explore$/);
  } finally {
    await close();
  }
});

await check('a lost connection is shown, retried, and subscriptions come back', async () => {
  const { page, close } = await open('/no/such/page');
  try {
    let connections = 0;
    let drop = () => {};
    const asked = [];
    await page.routeWebSocket(/\/api\/v1\/live$/, (socket) => {
      connections++;
      const server = socket.connectToServer();
      socket.onMessage((message) => {
        const frame = JSON.parse(String(message));
        asked.push(`${connections}:${frame.type}:${frame.id}`);
        server.send(message);
      });
      drop = (frame) => (frame ? socket.send(frame) : socket.close({ code: 1001 }));
    });
    await page.goto(base + hostPath);
    await page.waitForSelector('.connection.open');
    await page.waitForSelector('.legend .value');
    const [first] = asked;
    drop(JSON.stringify({ type: 'missed', id: Number(first.split(':')[2]), samples: 1234 }));
    await page.waitForSelector('.missed:has-text("1,234")');
    drop();
    await page.waitForSelector('.connection.waiting');
    await page.waitForSelector('.connection.open');
    demand(connections >= 2, `connected ${connections} times`);
    demand(asked.some((entry) => entry.startsWith('2:subscribe:')), `asked ${asked}`);
  } finally {
    await close();
  }
});

await check('a server that has nothing to push is not called live, and what was away is told', async () => {
  const { page, close } = await open('/no/such/page');
  try {
    let isReady = true;
    let push = () => {};
    let subscription = null;
    await page.route('**/-/ready', (route) =>
      isReady ? route.continue() : route.fulfill({ status: 503, body: 'not ready: no broker answers' }),
    );
    await page.routeWebSocket(/\/api\/v1\/live$/, (socket) => {
      const server = socket.connectToServer();
      socket.onMessage((message) => {
        const frame = JSON.parse(String(message));
        if (frame.selector) subscription = frame.id;
        server.send(message);
      });
      push = (frame) => socket.send(JSON.stringify({ id: subscription, ...frame }));
    });
    await page.goto(base + hostPath);
    await page.waitForSelector('.connection.open');
    await page.waitForSelector('.legend .value');
    isReady = false;
    push({ type: 'error', error: 'live samples stop: the broker does not answer' });
    await page.waitForSelector('.connection.waiting[title*="no broker answers"]');
    demand((await page.$$('.missed')).length === 0, 'something is called missed while the silence lasts');
    let looks = 0;
    // What agents kept back comes later than the first new sample, and so does another look.
    const looked = page.waitForRequest(
      (request) => request.url().endsWith('/query_range') && (request.postData() ?? '').includes('node_load15') && ++looks === 2,
    );
    isReady = true;
    // Nobody has counted: the 1 only says that there was something.
    push({ type: 'missed', samples: 1 });
    await page.waitForSelector('.missed:has-text("Interrupted")');
    demand((await page.$$('.missed')).length === 1, 'samples are counted that nobody counted');
    await page.waitForSelector('.connection.open');
    await looked;
  } finally {
    await close();
  }
});

await checkExplore({ open, check, demand });
await checkLogs({ base, open, check, demand });
await checkAlerts({ base, open, check, demand });
await checkCardinality({ base, open, check, demand });
await checkQueries({ base, open, check, demand });
await checkCluster({ open, check, demand });
if (clusterUrl) {
  await checkBrokers({ browser, base: clusterUrl, seriousViolations, check, demand });
  await checkLeaving({ browser, base: clusterUrl, seriousViolations, check, demand });
}
await checkPair({ base, open, check, demand });
await checkInjection({ base, open, check, demand });
await checkTenants({ base, open, check, demand });
await checkSilentTenant({ base, open, check, demand });
if (setupLink) await checkLogin({ browser, check, demand, settings: { timeoutMs: TIMEOUT_MS }, link: setupLink });

// Last: with so many hosts the page of hosts is another one.
await checkHosts({ base, browser, open, check, demand });

await check('an unknown API path is JSON, never the page', async () => {
  const response = await fetch(`${base}/api/v1/no/such/path`);
  demand(response.status === 404, `status ${response.status}`);
  demand(/^application\/json/.test(response.headers.get('content-type') ?? ''), `type ${response.headers.get('content-type')}`);
  demand((await response.json()).status === 'error', 'not an error envelope');
});

await check('first load is at most 60 KB compressed', async () => {
  const page = await fetch(`${base}/`).then((response) => response.text());
  const files = [...page.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g)].map(([, path]) => path);
  demand(files.length >= 2, 'the page names no script and style');
  const { gzipSync } = await import('node:zlib');
  const texts = await Promise.all(files.map(async (path) => (await fetch(base + path)).text()));
  const weight = (text) => gzipSync(text, { level: 9 }).length;
  // One of the dictionaries follows before anything is shown.
  const named = new Set(texts.flatMap((text) => [...text.matchAll(/(?:en|zh)-[\w-]{8}\.js/g)].map(([name]) => name)));
  demand(named.size === 2, `the dictionaries are ${[...named]}`);
  const dictionaries = await Promise.all([...named].map(async (name) => weight(await (await fetch(`${base}/assets/${name}`)).text())));
  const bytes = texts.reduce((sum, text) => sum + weight(text), Math.max(...dictionaries));
  demand(bytes <= 60 * 1024, `${bytes} bytes`);
});

await browser.close();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
