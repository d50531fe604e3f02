// The page of logs, over lines that are pushed as Promtail pushes them.

import { readFile } from 'node:fs/promises';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const MARKUP = '<img src=x onerror="window.ran=1"><script>window.ran=1</script>';
const STEP_MS = 2_000;
const STEPS = 300;
const LEVELS = ['info', 'info', 'info', 'debug', 'warn', 'error'];

async function push(base, streams, headers = {}) {
  const response = await fetch(`${base}/loki/api/v1/push`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify({ streams }),
  });
  if (!response.ok) throw new Error(`push answered ${response.status}: ${await response.text()}`);
}

const ns = (ms, n = 0) => String(BigInt(ms) * 1_000_000n + BigInt(n));

/** So that lines of an earlier run on the same server are others. */
const ENV = `browser-${Date.now().toString(36)}`;
export const ALL = `{env="${ENV}"}`;
/** No double holds it. */
const LONG_ID = '12345678901234567890';
/** A tenant who has sent nothing. */
const SILENT = `${ENV}-silent`;
/** The programs of {@link pushLines}, whatever else was pushed since. */
const THREE = `{app=~"shop|pay|attic", env="${ENV}"}`;
const of = (app) => `{app="${app}", env="${ENV}"}`;

/** When the lines end that were pushed. */
let end = 0;

/** When the newest line of JSON among those was, in nanoseconds. */
export const lastLine = () => ns(end - STEP_MS);

/** Ten minutes of three programs, the last lines a minute ago; whole seconds, so that they lie on edges of bars. */
export async function pushLines(base) {
  end = Math.floor(Date.now() / 60_000) * 60_000 - 60_000;
  const shop = [];
  const pay = [];
  const attic = [];
  for (let i = 0; i < STEPS; i++) {
    const at = end - (STEPS - i) * STEP_MS;
    const level = LEVELS[i % LEVELS.length];
    shop.push([ns(at), JSON.stringify({ level, msg: `request ${i} done`, status: i % 10 === 9 ? 500 : 200, user: { name: `user-${i % 5}` } })]);
    pay.push([ns(at, 7), `level=${level} msg="paid order ${i}" amount=${i}.50 region=eu-${i % 3}`, { trace_id: TRACE, pod: `pay-${i % 2}` }]);
    attic.push([ns(at, 9), i === STEPS - 1 ? MARKUP : `\u001b[32mINFO\u001b[0m temperature of attic is ${i} degrees`]);
  }
  await push(base, [
    { stream: { app: 'shop', env: ENV }, values: shop },
    { stream: { app: 'pay', env: ENV }, values: pay },
    { stream: { app: 'attic', env: ENV }, values: attic },
  ]);
}

export const address = (q, more = {}) => `/logs?${new URLSearchParams({ q, range: '1h', ...more })}`;
const ROWS = '.list .row';
const shownOf = (page) => page.$eval('[data-shown]', (count) => Number(count.dataset.shown));
const counted = (page) => page.$eval('[data-volume]', (bars) => Number(bars.dataset.volume));
const queryOf = (page) => page.evaluate(() => new URLSearchParams(location.search).get('q'));

/** Goes down the list until it has all lines. */
const down = (page) =>
  page.waitForFunction(() => {
    const list = document.querySelector('.list');
    if (list) list.scrollTop = list.scrollHeight;
    return document.querySelector('.list .end')?.textContent.includes('all lines');
  });

/** Checks of a page, which end without a complaint of it. */
const checks = ({ open, check, demand }) => (name, path, body, options) =>
  check(`logs: ${name}`, async () => {
    const { page, complaints, close } = await open(path, options);
    try {
      await body(page);
      demand(complaints.length === 0, complaints.join(' | '));
    } finally {
      await close();
    }
  });

/** After {@link pushLines}. */
export async function checkLogs({ base, open, check, demand }) {
  const onPage = checks({ open, check, demand });

  await onPage('all lines are listed, and as many are counted', address(ALL), async (page) => {
    await page.waitForSelector(ROWS);
    await page.waitForSelector('[data-volume]');
    demand((await counted(page)) === 3 * STEPS, `${await counted(page)} lines are counted`);
    await page.waitForFunction(() => /500 of 900 lines/.test(document.querySelector('[data-shown]')?.textContent ?? ''));
    // Down the list the rest is fetched.
    await page.waitForFunction((wanted) => {
      const list = document.querySelector('.list');
      list.scrollTop = list.scrollHeight;
      return Number(list.dataset.lines) === wanted;
    }, 3 * STEPS);
    await page.waitForSelector('.list .end:has-text("These are all lines")');
    // Each level of the bars has as many lines as the list.
    const bars = await page.$$eval('[data-volume] rect[data-level]', (parts) => parts.map(({ dataset }) => [dataset.level, Number(dataset.count)]));
    const sums = new Map();
    for (const [level, count] of bars) sums.set(level, (sums.get(level) ?? 0) + count);
    // The lines of the attic are info, in green, but for the one of markup.
    const wanted = { info: 2 * STEPS - 1, debug: STEPS / 3, warn: STEPS / 3, error: STEPS / 3, unknown: 1 };
    for (const [level, count] of Object.entries(wanted)) demand(sums.get(level) === count, `${sums.get(level)} lines of ${level}, not ${count}`);
  });

  for (const [q, more] of [
    [`${ALL} |= "order 2"`, {}],
    [`${ALL} | json | user_name = "user-3"`, {}],
    [ALL, { order: 'oldest' }],
  ]) {
    await onPage(`counts and list agree for ${q}${more.order ? ', the oldest first' : ''}`, address(q, more), async (page) => {
      await page.waitForSelector(ROWS);
      await page.waitForSelector('[data-volume]');
      await down(page);
      const [list, bars] = [await shownOf(page), await counted(page)];
      demand(list === bars && list > 0, `${list} lines are listed, ${bars} counted`);
    });
  }

  await onPage('dragging over the bars zooms in, to edges of bars, and both still agree', address(ALL), async (page) => {
    const bars = await page.waitForSelector('[data-volume] rect[data-level]');
    const first = await bars.boundingBox();
    const all = await page.$$eval('[data-volume] rect[data-level]', (parts) => Math.max(...parts.map((part) => part.getBoundingClientRect().right)));
    await page.mouse.move(first.x + 2, first.y - 6);
    await page.mouse.down();
    await page.mouse.move((first.x + all) / 2, first.y - 6, { steps: 5 });
    await page.mouse.up();
    await page.waitForURL(/from=\d+&to=\d+/);
    await page.waitForFunction(() => {
      const params = new URLSearchParams(location.search);
      return (Number(params.get('to')) - Number(params.get('from'))) % 60_000 === 0 && document.querySelector('[data-volume]') && document.querySelector('.list .row');
    });
    await page.waitForTimeout(600);
    await down(page);
    const [list, count] = [await shownOf(page), await counted(page)];
    demand(list === count && list > 0 && list < 3 * STEPS, `${list} lines are listed, ${count} counted`);
    await page.focus('[data-volume]');
    await page.keyboard.press('ArrowLeft');
    await page.waitForSelector('[data-volume] .tip');
  });

  await onPage('times that cut bars off are counted exactly', '/logs', async (page) => {
    await page.goto(base + address(ALL, { range: '', from: String(end - 333_333), to: String(end - 1_234) }));
    await page.waitForSelector('[data-volume]');
    await page.waitForSelector(ROWS);
    await down(page);
    const [list, count] = [await shownOf(page), await counted(page)];
    demand(list === count && list > 400, `${list} lines are listed, ${count} counted`);
  });

  await onPage('a line opens by keyboard into its fields, which filter in and out', address(of('shop')), async (page) => {
    await page.waitForSelector(ROWS);
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.waitForSelector('.details tr[data-field="user_name"]');
    const fields = await page.$$eval('.details tr[data-field]', (rows) => rows.map((row) => row.dataset.field));
    for (const name of ['app', 'env', 'service_name', 'detected_level', 'level', 'msg', 'status', 'user_name']) demand(fields.includes(name), `no field ${name} among ${fields}`);
    demand((await page.textContent('.details pre')).includes('\n  "msg": '), 'the JSON is not set over lines');
    const value = await page.textContent('.details tr[data-field="user_name"] .value');
    await page.click('.details tr[data-field="user_name"] [data-filter="in"]');
    await page.waitForFunction(() => new URLSearchParams(location.search).get('q')?.includes('user_name'));
    demand((await queryOf(page)) === `${of('shop')} | json | user_name = "${value}"`, `the query is ${await queryOf(page)}`);
    await page.waitForFunction((n) => Number(document.querySelector('[data-volume]')?.dataset.volume) === n, STEPS / 5);
    await page.waitForSelector(ROWS);
    await page.click(`${ROWS} .toggle`);
    await page.click('.details tr[data-field="user_name"] [data-filter="out"]');
    await page.waitForFunction((n) => Number(document.querySelector('[data-volume]')?.dataset.volume) === n, STEPS - STEPS / 5);
    await page.waitForSelector(ROWS);
    await page.click(`${ROWS} .toggle`);
    await page.click('.details tr[data-field="app"] [data-filter="out"]');
    await page.waitForFunction(() => new URLSearchParams(location.search).get('q')?.includes('app!="shop"'));
  });

  await onPage('the builder shows a query, and levels narrow it', address(`${ALL} |= "order"`), async (page) => {
    await page.waitForSelector('[data-matcher]');
    demand((await page.inputValue('[data-matcher] input.name')) === 'env', 'the label is not shown');
    demand((await page.inputValue('[data-line-filter] input')) === 'order', 'the text is not shown');
    await page.click('.level:has-text("error")');
    await page.waitForFunction((n) => Number(document.querySelector('[data-volume]')?.dataset.volume) === n, STEPS / 6);
    demand((await queryOf(page)) === `${ALL} |= "order" | detected_level = "error"`, `the query is ${await queryOf(page)}`);
    await page.click('.builder .add:has-text("Label")');
    await page.locator('[data-matcher]').nth(1).locator('input').first().fill('app');
    const value = page.locator('[data-matcher]').nth(1).locator('input').nth(1);
    await value.focus();
    await page.waitForFunction(() => [...document.querySelectorAll('datalist option')].some(({ value: name }) => name === 'pay'));
    await value.fill('pay');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => new URLSearchParams(location.search).get('q')?.includes('app="pay"'));
    // Fields are those that lines have behind what is chosen.
    await page.selectOption('.builder .parser', 'logfmt');
    await page.click('.builder .add:has-text("Field")');
    const condition = page.locator('[data-condition]').first().locator('input');
    await condition.first().focus();
    await page.waitForFunction(() => [...document.querySelectorAll('datalist option')].some(({ value: name }) => name === 'region'));
    await condition.first().fill('region');
    await condition.nth(1).focus();
    await page.waitForFunction(() => [...document.querySelectorAll('datalist option')].some(({ value: name }) => name === 'eu-2'));
    await condition.nth(1).fill('eu-2');
    await page.keyboard.press('Enter');
    await page.waitForFunction((n) => Number(document.querySelector('[data-volume]')?.dataset.volume) === n, STEPS / 6);
  });

  await onPage('the editor completes labels, values, stages and fields', '/logs', async (page) => {
    await page.click('.modes button:has-text("Text")');
    await page.click('.cm-content');
    const proposes = async (written, wanted) => {
      await page.keyboard.type(written);
      await page.waitForSelector(`.cm-tooltip-autocomplete li:has-text("${wanted}")`).catch(() => {
        throw new Error(`${JSON.stringify(written)} does not propose ${wanted}`);
      });
    };
    // A list that has just come takes no key, so that none is taken by mistake.
    const accept = async () => {
      await page.waitForTimeout(200);
      await page.keyboard.press('Enter');
    };
    await proposes('{ap', 'app');
    await accept();
    await proposes('"sh', 'shop');
    await accept();
    await page.keyboard.press('End');
    await proposes(' | js', 'json');
    await accept();
    await proposes(' | user', 'user_name');
    await accept();
    await proposes('"user-', 'user-4');
    await accept();
    // Blanks are written before stages, and what may stand there is proposed all the same.
    await proposes(' | ', 'line_format');
    await page.keyboard.press('Escape');
    await page.keyboard.press('Backspace');
    await page.keyboard.press('Backspace');
    await page.keyboard.press('Control+Enter');
    await page.waitForURL(/user_name/);
    await page.waitForSelector(ROWS);
  });

  await onPage('an error is shown with its place', address(of('shop') + ' |= json'), async (page) => {
    await page.waitForSelector('.error pre');
    demand(/\n\s*\^/.test(await page.textContent('.error pre')), 'no caret under the error');
  }, { isFailing: true });

  await onPage('fields tell their most frequent values', address(of('pay'), { fields: '1' }), async (page) => {
    await page.click('[data-statistic="region"] .name');
    const values = await page.$$eval('[data-statistic="region"] [data-value]', (rows) => rows.map((row) => row.dataset.value).sort().join());
    demand(values === 'eu-0,eu-1,eu-2', `the values are ${values}`);
    await page.click('[data-statistic="pod"] .name');
    await page.click('[data-statistic="pod"] [data-value="pay-1"] button');
    await page.waitForFunction((n) => Number(document.querySelector('[data-volume]')?.dataset.volume) === n, STEPS / 2);
  });

  await onPage('patterns tell what lines have in common, and filter', address(of('pay'), { tab: 'patterns' }), async (page) => {
    await page.waitForSelector('[data-patterns] tbody tr');
    const pattern = await page.textContent('[data-patterns] .pattern');
    demand(pattern.includes('<_>') && pattern.includes('paid order'), `the pattern is ${pattern}`);
    await page.click('[data-patterns] tbody tr .actions button');
    await page.waitForFunction(() => new URLSearchParams(location.search).get('q')?.includes('|>'));
    await page.waitForSelector(ROWS);
  });

  await onPage('context shows the lines around, also of other streams', address(of('attic') + ' |= "is 150 degrees"'), async (page) => {
    await page.waitForSelector(ROWS);
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('c');
    await page.waitForFunction(() => Number(document.querySelector('[data-context]')?.dataset.context) >= 99);
    const order = await page.$$eval('[data-context] .row', (rows) => {
      const here = rows.findIndex((row) => row.hasAttribute('data-here'));
      return rows.slice(here - 1, here + 2).map((row) => /is (\d+) degrees/.exec(row.textContent)?.[1]);
    });
    demand(order.join() === '149,150,151', `around it stand ${order}`);
    await page.click('dialog .labels button:has-text("app=")');
    await page.click('dialog .labels button:has-text("service_name=")');
    await page.waitForSelector('[data-context] .row:has-text("paid order 150")');
    // Lines of several streams tell which.
    demand((await page.textContent('[data-context] .row:has-text("paid order 150") .cell')) === 'pay', 'the label is not told');
  });

  await onPage('foreign markup is text, terminal colours are colours', address(of('attic')), async (page) => {
    await page.waitForSelector(`${ROWS}:has-text("<img src=x")`);
    await page.click(`${ROWS}:has-text("<img src=x") .toggle`);
    await page.waitForSelector('.details');
    demand((await page.evaluate(() => globalThis.ran)) === undefined, 'a script ran');
    demand((await page.locator('main img, main script, [onerror]').count()) === 0, 'elements came out of text');
    demand((await page.textContent(`${ROWS} .ansi-green`)) === 'INFO', 'no colour');
    demand(!(await page.textContent(`${ROWS}:has(.ansi-green) .text`)).includes('\u001b'), 'the escapes are shown');
  });

  await onPage('live lines come, wait while paused, and follow', address(of('live'), { live: '1' }), async (page) => {
    await page.waitForSelector('[data-tail="open"]');
    const send = (n) => push(base, [{ stream: { app: 'live', env: ENV }, values: [[ns(Date.now(), n), `live line ${n}`]] }]);
    await send(1);
    await page.waitForSelector(`${ROWS}:has-text("live line 1")`);
    await page.click('[data-action="pause"]');
    await send(2);
    await page.waitForSelector('[data-waiting="1"]');
    demand((await page.locator(`${ROWS}:has-text("live line 2")`).count()) === 0, 'a line came while paused');
    await page.click('[data-action="pause"]');
    await page.waitForSelector(`${ROWS}:has-text("live line 2")`);
    await page.waitForFunction(() => /[\d.]+ lines\/s/.test(document.querySelector('[data-rate]')?.textContent ?? ''));
    demand((await shownOf(page)) === 2, `${await shownOf(page)} lines are shown`);
  });

  await onPage('fields are counted while lines keep coming', address(of('steady'), { live: '1', fields: '1' }), async (page) => {
    await page.waitForSelector('[data-tail="open"]');
    let isOver = false;
    const flow = (async () => {
      for (let n = 0; !isOver; n += 200) {
        const values = Array.from({ length: 200 }, (_, i) => [ns(Date.now(), i), JSON.stringify({ level: 'info', n: n + i, msg: 'steady', a: { b: 1, c: 'd' }, e: 1.5 })]);
        await push(base, [{ stream: { app: 'steady', env: ENV }, values }]);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    try {
      // So many take longer to count than the next ones take to come.
      await page.waitForFunction(() => Number(document.querySelector('[data-shown]').dataset.shown) > 8000, null, { timeout: 20_000 });
      await page.waitForFunction(() => Number(/\d+/.exec(document.querySelector('aside .num')?.textContent.replaceAll(',', '') ?? '')?.[0] ?? 0) > 8000, null, { timeout: 8_000 });
    } finally {
      isOver = true;
      await flow;
    }
  });

  await onPage('a download has the lines, as text and as JSON', address(of('pay') + ' |= "order 2"'), async (page) => {
    await page.waitForSelector(ROWS);
    const saved = async (what) => {
      await page.click('summary:has-text("Download")');
      const [download] = await Promise.all([page.waitForEvent('download'), page.click(`[data-download="${what}"]`)]);
      return (await readFile(await download.path(), 'utf8')).trimEnd().split('\n');
    };
    const count = await shownOf(page);
    const text = await saved('text-shown');
    demand(text.length === count && /^\d{4}-\d\d-\d\dT.*Z level=\w+ msg="paid order 2/.test(text[0]), `text: ${text.length} lines, ${text[0]}`);
    const json = (await saved('json-all')).map((one) => JSON.parse(one));
    demand(json.length === count, `JSON: ${json.length} lines`);
    demand(json[0].app === 'pay' && json[0].trace_id === TRACE && json[0]._msg.includes('paid order 2'), `JSON: ${JSON.stringify(json[0])}`);
    demand(json[0]._time < json.at(-1)._time, 'the file is not in order');
  });

  await onPage('numbers become a graph', address(`sum by (app) (count_over_time(${ALL}[1m]))`), async (page) => {
    await page.waitForSelector('[data-series] canvas');
    await page.waitForSelector('.legend tbody tr:nth-child(3)');
    demand((await page.textContent('[data-series] header')).includes('read'), 'the bytes that were read are not told');
  });

  await onPage('numbers become a table', address(`sum by (app) (count_over_time(${ALL}[1h]))`, { tab: 'table' }), async (page) => {
    await page.waitForSelector('#log-numbers td.value');
    const rows = await page.$$eval('#log-numbers tbody tr', (found) => found.map((row) => row.textContent.replace(/\s+/g, ' ').trim()).sort());
    demand(rows.length >= 3 && rows.some((row) => row.startsWith('pay') && row.includes(String(STEPS))), `the rows are ${rows.join(' | ')}`);
    await page.click('#tab-graph');
    await page.waitForSelector('[data-series] canvas');
  });

  await onPage('all lines are told by the values of a field, and filtered by one', address(THREE, { tab: 'groups' }), async (page) => {
    const groups = () => page.$$eval('[data-group]', (rows) => rows.map((row) => `${row.dataset.group}=${row.querySelector('td').textContent}`).sort().join());
    // Services, as they differ; all lines of them, not only those that are listed.
    await page.waitForSelector('[data-groups="3"]');
    demand((await groups()) === `attic=${STEPS},pay=${STEPS},shop=${STEPS}`, `the groups are ${await groups()}`);
    await page.waitForSelector('[data-group="pay"] svg path');
    await page.selectOption('.work select', 'region');
    await page.waitForSelector('[data-group="eu-2"]');
    demand((await groups()).includes(`eu-0=${STEPS / 3},eu-1=${STEPS / 3},eu-2=${STEPS / 3}`), `the groups are ${await groups()}`);
    await page.click('[data-group="eu-2"] .actions button');
    await page.waitForFunction(() => new URLSearchParams(location.search).get('q')?.endsWith('| logfmt | region = "eu-2"'));
    await page.waitForFunction((n) => Number(document.querySelector('[data-volume]')?.dataset.volume) === n, STEPS / 3);
  });

  await onPage('a link to a line shows it opened, with its times', address(of('pay')), async (page) => {
    await page.evaluate(() => {
      // Pages without TLS have no clipboard of their own.
      Object.defineProperty(navigator, 'clipboard', { value: undefined });
      document.addEventListener('copy', () => (globalThis.copied = document.activeElement.value));
    });
    await page.waitForSelector(ROWS);
    const wanted = page.locator(ROWS).nth(4);
    const text = await wanted.locator('.text').textContent();
    await wanted.locator('.toggle').click();
    await page.click('.details [data-action="copy-link"]');
    const link = await page.waitForFunction(() => globalThis.copied).then((found) => found.jsonValue());
    await page.goto(base + new URL(link).pathname + new URL(link).search);
    await page.waitForSelector('.row.open .details');
    demand((await page.textContent('.row.open .text')) === text, 'another line is opened');
    demand((await page.locator('.row.open').count()) === 1, 'several lines are opened');
    demand(/from=\d+&to=\d+/.test(page.url()) && !/range=/.test(page.url()), `the times are not held: ${page.url()}`);
  });

  await onPage('an id is looked for in the lines of all streams', address(`${of('pay')} |= "paid order 170"`), async (page) => {
    await page.waitForSelector(ROWS);
    await page.click(`${ROWS} .toggle`);
    await page.click('.details tr[data-field="trace_id"] [data-filter="find"]');
    await page.waitForFunction((id) => new URLSearchParams(location.search).get('q') === `{service_name=~".+"} | trace_id = "${id}"`, TRACE);
    await page.waitForFunction((n) => Number(document.querySelector('[data-volume]')?.dataset.volume) >= n, STEPS);
  });

  await onPage('numbers of JSON keep their digits, in the line and in a filter', address(of('ids')), async (page) => {
    await push(base, [{ stream: { app: 'ids', env: ENV }, values: [[ns(end), `{"id":${LONG_ID},"price":1.50,"text":"one\\ntwo"}`], [ns(end, 1), `first\n\tat second\u202e`]] }]);
    await page.reload();
    await page.waitForSelector(`${ROWS}:has-text("first ↵ ")`);
    demand((await page.textContent(`${ROWS}:has-text("first") .text`)).includes('second<U+202E>'), 'a sign that turns text is hidden');
    await page.click(`${ROWS}:has-text("price") .toggle`);
    const shown = await page.textContent('.details pre');
    demand(shown.includes(`"id": ${LONG_ID}`) && shown.includes('"price": 1.50'), `the line is shown as ${shown}`);
    await page.click('.details tr[data-field="id"] [data-filter="in"]');
    await page.waitForFunction((id) => new URLSearchParams(location.search).get('q')?.endsWith(`id = "${id}"`), LONG_ID);
    await page.waitForFunction(() => Number(document.querySelector('[data-volume]')?.dataset.volume) === 1);
  });

  await onPage('lines of several services tell which, and times are shown in UTC as well', address(THREE), async (page) => {
    await page.waitForSelector(ROWS);
    demand(/^(shop|pay|attic)$/.test(await page.textContent(`${ROWS} .cell`)), 'the service is not told');
    const time = await page.textContent(`${ROWS} time`);
    await page.click('[popovertarget="range-menu"]');
    await page.click('[data-zone="UTC"]');
    await page.waitForFunction((before) => document.querySelector('.list .row time')?.textContent !== before, time);
    const utc = await page.textContent(`${ROWS} time`);
    demand(utc.endsWith(new Date(end - STEP_MS).toISOString().slice(11, 23)), `${utc} is not the time of the newest line`);
  }, { timezoneId: 'Asia/Kathmandu' });

  await onPage('a view is saved and opened by its name', address(`${ALL} |= "order"`, { wrap: '1' }), async (page) => {
    await page.click('summary:has-text("Saved views")');
    await page.fill('input[name="view"]', ENV);
    await page.keyboard.press('Enter');
    await page.waitForURL(new RegExp(`saved=${ENV}`));
    await page.goto(`${base}/logs`);
    await page.click('summary:has-text("Saved views")');
    await page.click(`.view:has-text("${ENV}")`);
    await page.waitForURL(/wrap=1/);
    await page.waitForFunction((q) => new URLSearchParams(location.search).get('q') === q, `${ALL} |= "order"`);
  });

  await onPage('a line leads to its host at that time', '/logs', async (page) => {
    const host = await page.evaluate(async () => (await (await fetch('/api/v1/label/instance/values?match[]=node_uname_info')).json()).data[0]);
    await push(base, [{ stream: { app: 'hosted', env: ENV, host: host.replace(/:\d+$/, '') }, values: [[ns(end), 'a line of a host']] }]);
    await page.goto(base + address(of('hosted')));
    await page.waitForSelector(ROWS);
    await page.click(`${ROWS} .toggle`);
    await page.click('[data-host-link]');
    await page.waitForURL(/\/host\/.*from=\d+&to=\d+/);
    const { from, to } = await page.evaluate(() => Object.fromEntries(new URLSearchParams(location.search)));
    demand(Number(from) < end && Number(to) > end, `${from} to ${to} is not about ${end}`);
  });

  await onPage('a series of Explore leads to the lines of its host at that time', `/explore?${new URLSearchParams({ q: 'node_load1', range: '5m' })}`, async (page) => {
    await page.click('.legend [data-logs-link]');
    await page.waitForURL(/\/logs\?q=%7Bhost%3D.*&from=\d+&to=\d+/);
  });

  await onPage('a text is looked for by keyboard alone', address(of('pay')), async (page) => {
    await page.waitForSelector(ROWS);
    await page.keyboard.press('/');
    await page.keyboard.type('order 250');
    await page.keyboard.press('Enter');
    await page.waitForFunction((q) => new URLSearchParams(location.search).get('q') === q, `${of('pay')} |= "order 250"`);
    await page.waitForFunction(() => Number(document.querySelector('[data-volume]')?.dataset.volume) === 1);
    // The counts may come before the lines.
    await page.waitForSelector('.list[data-lines="1"]');
    await page.keyboard.press('Escape');
    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.waitForSelector('.row.open .details');
    await page.keyboard.press('Tab');
    demand(await page.evaluate(() => document.activeElement.closest('.details') !== null), 'the open line is not the next to be reached');
  });

  await onPage('how lines are shown stands in the address', address(of('shop')), async (page) => {
    await page.waitForSelector(ROWS);
    await page.keyboard.press('w');
    await page.waitForURL(/wrap=1/);
    await page.waitForSelector('.list.wrap');
    await page.click(`${ROWS} .toggle`);
    await page.click('.details tr[data-field="user_name"] [aria-label*="column"]');
    await page.waitForURL(/columns=user_name/);
    await page.reload();
    await page.waitForSelector('.list.wrap .row .cell');
    demand(/^user-\d$/.test(await page.textContent(`${ROWS} .cell`)), 'the column is empty');
  });

  await onPage('a host leads to its lines', '/', async (page) => {
    await page.waitForSelector('a.card h2');
    await page.click('a.card');
    await page.waitForSelector('[data-logs-link]');
    await page.click('[data-logs-link]');
    await page.waitForURL(/\/logs\?q=%7Bhost%3D/);
  });

  await check('logs: a hundred thousand lines scroll smoothly', async () => {
    const [total, each] = [100_000, 10_000];
    const last = Date.now() - 30_000;
    for (let from = 0; from < total; from += each) {
      const values = Array.from({ length: each }, (_, i) => [ns(last - (total - from - i)), `line ${from + i} of many`]);
      await push(base, [{ stream: { app: 'many', env: ENV }, values }]);
    }
    const { page, complaints, close } = await open(address(of('many'), { range: '15m' }));
    try {
      await page.waitForSelector(ROWS);
      await page.waitForFunction(
        (wanted) => {
          const list = document.querySelector('.list');
          list.scrollTop = list.scrollHeight;
          return Number(list.dataset.lines) === wanted;
        },
        total,
        { timeout: 120_000, polling: 50 },
      );
      demand((await counted(page)) === total, `${await counted(page)} lines are counted`);
      const frames = await page.evaluate(async () => {
        const list = document.querySelector('.list');
        list.scrollTop = 0;
        const times = [];
        let last = performance.now();
        for (let i = 0; i < 120; i++) {
          list.scrollTop = i % 10 === 0 ? (i / 120) * list.scrollHeight : list.scrollTop + 150;
          await new Promise(requestAnimationFrame);
          times.push(performance.now() - last);
          last = performance.now();
        }
        return { median: times.sort((a, b) => a - b)[60], rows: document.querySelectorAll('.list .row').length };
      });
      demand(frames.rows < 120, `${frames.rows} rows are in the page`);
      demand(frames.median < 50, `a frame takes ${frames.median.toFixed(0)} ms`);
      demand(complaints.length === 0, complaints.join(' | '));
    } finally {
      await close();
    }
  });
}

/** Makes a tenant, so it comes when others need not be alone any more. */
export async function checkSilentTenant({ base, open, check, demand }) {
  const onPage = checks({ open, check, demand });
  await onPage('who has sent nothing is told how', '/no/such/page', async (page) => {
    await page.evaluate((tenant) => localStorage.setItem('watchfire.tenant', JSON.stringify(tenant)), SILENT);
    await page.goto(`${base}/logs`);
    await page.waitForSelector('[data-empty]');
    const text = await page.textContent('[data-empty]');
    for (const way of ['/loki/api/v1/push', 'OTEL_EXPORTER_OTLP_LOGS_ENDPOINT', 'rsyslog', 'curl', SILENT]) demand(text.includes(way), `nothing about ${way}`);
    await push(base, [{ stream: { app: 'first' }, values: [[ns(Date.now()), 'the first line']] }], { 'X-Scope-OrgID': SILENT });
    await page.waitForSelector(`${ROWS}:has-text("the first line")`);
    // What comes live is of the tenant as well.
    await page.keyboard.press('Space');
    await page.waitForSelector('[data-tail="open"]');
    await push(base, [{ stream: { app: 'first' }, values: [[ns(Date.now()), 'a line of another tenant']] }]);
    await push(base, [{ stream: { app: 'first' }, values: [[ns(Date.now()), 'the second line']] }], { 'X-Scope-OrgID': SILENT });
    await page.waitForSelector(`${ROWS}:has-text("the second line")`);
    demand((await shownOf(page)) === 2, `${await shownOf(page)} lines are shown`);
    await page.click(`${ROWS}:has-text("the second line") .toggle`);
    // Labels and metadata are told apart, as in a list.
    const groups = await page.$$eval('.details th', (heads) => heads.map((head) => head.textContent).join());
    demand(groups === 'Labels of the stream,Structured metadata', `the fields are of ${groups}`);
  });
}
