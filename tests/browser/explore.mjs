// Explore's pictures of distributions: classic and native histograms, exemplars; its table, browser and explanations.

const STEP_MS = 15_000;
const STEPS = 40;
const BOUNDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5];
/** Requests per step and bucket, not cumulative; the last is beyond all bounds. */
const PER_STEP = [40, 25, 18, 9, 5, 2, 1];
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';

/**
 * A classic histogram with an exemplar in its third bucket, from ten minutes ago until now; or its points from one on,
 * without exemplars.
 */
function openMetrics(now, first = 0) {
  const lines = ['# TYPE shop_request_seconds histogram', '# HELP shop_request_seconds Time of a request.', '# UNIT shop_request_seconds seconds'];
  for (const pod of ['a', 'b']) {
    const labels = `job="shop",pod="${pod}"`;
    for (let step = first; step <= STEPS; step++) {
      const at = (now - (STEPS - step) * STEP_MS) / 1000;
      let count = 0;
      for (const [i, requests] of PER_STEP.entries()) {
        // A wave of slow ones goes through.
        const slow = step > 15 && step < 25 && i > 2 ? 8 : 1;
        count += requests * slow * (step + 1);
        const le = BOUNDS[i] === undefined ? '+Inf' : String(BOUNDS[i]);
        const exemplar = first === 0 && i === 2 && pod === 'a' && step % 4 === 0 ? ` # {trace_id="${TRACE}",pod="${pod}"} 0.2${step % 10} ${at - 1}` : '';
        lines.push(`shop_request_seconds_bucket{${labels},le="${le}"} ${count} ${at}${exemplar}`);
      }
      lines.push(`shop_request_seconds_count{${labels}} ${count} ${at}`, `shop_request_seconds_sum{${labels}} ${count / 5} ${at}`);
    }
  }
  return `${lines.join('\n')}\n# EOF\n`;
}

/** An exponential histogram that began at a time, which becomes a native one: all of its points, or those from one on. */
function otlp(now, beganMs, first = 0) {
  const dataPoints = [];
  for (let step = first; step <= STEPS; step++) {
    const bucketCounts = Array.from({ length: 24 }, (_, i) => Math.round(60 * Math.exp(-((i - 12 - 6 * Math.sin(step / 7)) ** 2) / 18)) * (step + 1));
    const count = bucketCounts.reduce((sum, one) => sum + one, 0);
    dataPoints.push({
      startTimeUnixNano: String(beganMs * 1e6),
      timeUnixNano: String((now - (STEPS - step) * STEP_MS) * 1e6),
      count: String(count),
      sum: count * 0.2,
      scale: 2,
      zeroCount: '0',
      positive: { offset: -16, bucketCounts: bucketCounts.map(String) },
      attributes: [{ key: 'route', value: { stringValue: '/pay' } }],
    });
  }
  return {
    resourceMetrics: [
      {
        resource: { attributes: [{ key: 'service.name', value: { stringValue: 'shop' } }] },
        scopeMetrics: [
          { metrics: [{ name: 'pay.duration', unit: 's', description: 'Time to pay.', exponentialHistogram: { aggregationTemporality: 2, dataPoints } }] },
        ],
      },
    ],
  };
}

export async function importDistributions(base) {
  const now = Date.now();
  const send = async (path, type, body) => {
    const response = await fetch(base + path, { method: 'POST', headers: { 'Content-Type': type }, body });
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
  };
  await send('/api/v1/import/prometheus', 'application/openmetrics-text; version=1.0.0', openMetrics(now));
  const [beganMs, again] = [now - 3_600_000, 60_000];
  await send('/v1/metrics', 'application/json', JSON.stringify(otlp(now, beganMs)));
  // What is asked for now, minutes later on a busy machine, is still there.
  const goOn = async () => {
    const at = Date.now();
    await send('/api/v1/import/prometheus', 'application/openmetrics-text; version=1.0.0', openMetrics(at, STEPS));
    await send('/v1/metrics', 'application/json', JSON.stringify(otlp(at, beganMs, STEPS)));
  };
  setInterval(() => void goOn().catch(() => {}), again).unref();
}

const CLASSIC = 'sum by (le) (rate(shop_request_seconds_bucket[1m]))';
const NATIVE = 'sum(rate(pay_duration_seconds[1m]))';
const address = (q, more) => `/explore?${new URLSearchParams({ q, range: '15m', ...more })}`;

/** The colours of the heat map that are neither its ground nor hatched. */
const heatColours = (page) =>
  page.$eval('canvas[data-heat]', (canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const colours = new Set();
    for (let i = 0; i < data.length; i += 4 * 7) if (data[i + 3] > 0) colours.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
    return colours.size;
  });

/** After {@link importDistributions}. */
export async function checkExplore({ open, check, demand }) {
  for (const [kind, query] of [['classic', CLASSIC], ['native', NATIVE]]) {
    await check(`explore: a heat map of ${kind} buckets tells its cells, also by keyboard`, async () => {
      const { page, complaints, close } = await open(address(query, { tab: 'heatmap' }));
      try {
        await page.waitForSelector('canvas[data-heat]');
        await page.waitForFunction(() => document.querySelectorAll('.heat .bound').length >= 4);
        await page.waitForTimeout(300);
        const colours = await heatColours(page);
        demand(colours > 4, `${colours} colours`);
        await page.focus('.heat');
        await page.keyboard.press('ArrowRight');
        await page.keyboard.press('ArrowUp');
        const told = await page.textContent('.heat .tip');
        demand(/\d{2}:\d{2}:\d{2}.*\d(?: ms| s)? to .*\d (?:ms|s)/s.test(told ?? ''), `the cell says ${told}`);
        demand((await page.evaluate(() => location.search)).includes('range=15m'), 'an arrow moved the range');
        demand(complaints.length === 0, complaints.join(' | '));
      } finally {
        await close();
      }
    });
  }

  await check('explore: dragging over the heat map zooms in', async () => {
    const { page, close } = await open(address(CLASSIC, { tab: 'heatmap' }));
    try {
      const box = await (await page.waitForSelector('canvas[data-heat]')).boundingBox();
      await page.mouse.move(box.x + box.width * 0.3, box.y + 40);
      await page.mouse.down();
      await page.mouse.move(box.x + box.width * 0.6, box.y + 50, { steps: 4 });
      await page.mouse.up();
      await page.waitForURL(/from=\d+&to=\d+/);
    } finally {
      await close();
    }
  });

  await check('explore: a query without buckets says what a heat map needs', async () => {
    const { page, close } = await open(address('up', { tab: 'heatmap' }));
    try {
      await page.waitForSelector('#results .message code:has-text("_bucket")');
    } finally {
      await close();
    }
  });

  await check('explore: exemplars are dots that tell their trace', async () => {
    const query = 'histogram_quantile(0.9, sum by (le) (rate(shop_request_seconds_bucket[1m])))';
    const { page, complaints, close } = await open(address(query));
    try {
      await page.waitForSelector('[data-chart] canvas');
      demand((await page.$$('[data-exemplar]')).length === 0, 'there are dots that nobody asked for');
      await page.click('label:has-text("Exemplars") input');
      await page.waitForURL(/exemplars=1/);
      await page.waitForSelector('[data-exemplar]');
      const dots = await page.$$('[data-exemplar]');
      demand(dots.length >= 8, `${dots.length} dots`);
      const plot = await (await page.$('[data-chart] .u-over')).boundingBox();
      for (const dot of dots) {
        const box = await dot.boundingBox();
        const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
        const isIn = x >= plot.x - 1 && x <= plot.x + plot.width + 1 && y >= plot.y - 8 && y <= plot.y + plot.height + 1;
        demand(isIn, `a dot lies at ${x}, ${y}`);
      }
      await dots[2].hover();
      await page.waitForSelector(`.layer .tip:has-text("${TRACE}")`);
      await page.focus('[data-exemplar][tabindex="0"]');
      const first = await page.textContent('.layer .tip .at');
      await page.keyboard.press('ArrowRight');
      await page.waitForFunction((before) => document.querySelector('.layer .tip .at')?.textContent !== before, first);
      demand(complaints.length === 0, complaints.join(' | '));
    } finally {
      await close();
    }
  });

  await check('explore: the table has bars as long as its values', async () => {
    const { page, close } = await open(address('sort_desc(sum by (le) (shop_request_seconds_bucket))', { tab: 'table' }));
    try {
      await page.waitForSelector('#results td.value i');
      const rows = await page.$$eval('#results tbody tr', (all) =>
        all.map((row) => [Number(row.querySelector('.value span').title), parseFloat(row.querySelector('.value i').style.width)]),
      );
      const most = Math.max(...rows.map(([value]) => value));
      const isRight = rows.every(([value, bar]) => Math.abs(bar - (100 * value) / most) < 0.1);
      demand(rows.length === 7 && isRight, JSON.stringify(rows));
      demand((await page.$$('[data-histogram]')).length === 1, 'the buckets are not drawn as a histogram');
    } finally {
      await close();
    }
  });

  await check('explore: a native histogram in the table is drawn as bars', async () => {
    const { page, close } = await open(address('pay_duration_seconds', { tab: 'table' }));
    try {
      const told = await (await page.waitForSelector('td [data-histogram]')).getAttribute('aria-label');
      demand(/observations · sum .* · average 0\.2/.test(told), told);
      const bars = (await page.$$('td [data-histogram] .bars span')).length;
      demand(bars > 10, `${bars} bars`);
    } finally {
      await close();
    }
  });

  await check('explore: the browser tells type and unit, and narrows by type and labels', async () => {
    const { page, close } = await open('/explore');
    try {
      await page.click('button:has-text("Metrics")');
      await page.waitForSelector('aside li');
      await page.fill('aside input', 'pay_duration');
      await page.waitForSelector('aside li:has-text("pay_duration_seconds") .type:has-text("histogram · seconds")');
      await page.waitForSelector('aside li .help:has-text("Time to pay.")');
      await page.selectOption('aside select[aria-label="Type"]', 'counter');
      await page.waitForSelector('aside .message');
      await page.selectOption('aside select[aria-label="Type"]', '');
      await page.fill('aside input', '');
      await page.selectOption('aside select[aria-label="Filter by label…"]', 'job');
      await page.waitForSelector('aside select[aria-label="Value of job…"] option:text-is("shop")', { state: 'attached' });
      await page.selectOption('aside select[aria-label="Value of job…"]', 'shop');
      await page.waitForFunction(() => [...document.querySelectorAll('aside li .name')].every((name) => /^(shop|pay|target)_/.test(name.textContent)));
      await page.click('aside li:has-text("pay_duration_seconds") button');
      await page.waitForSelector('.cm-content:has-text("pay_duration_seconds{job=\\"shop\\"}")');
      await page.click('aside .chip');
      await page.waitForSelector('aside li:has-text("node_")');
    } finally {
      await close();
    }
  });

  await check('explore: what is typed is completed with help, by keyboard alone', async () => {
    const { page, complaints, close } = await open('/explore');
    const shown = (text) => page.waitForFunction((wanted) => document.querySelector('.cm-content')?.textContent === wanted, text);
    const proposed = async (text) => {
      const has = (wanted) => [...document.querySelectorAll('.cm-completionLabel')].some((label) => label.textContent === wanted);
      await page.waitForFunction(has, text);
      // The list takes no key in its first moment, so that nobody chooses what was not seen.
      await page.waitForTimeout(150);
    };
    try {
      await page.click('.cm-content');
      await page.keyboard.type('sum(rat');
      await proposed('rate');
      await page.waitForSelector('.cm-completionInfo:has-text("Increase of a counter per second")');
      await page.waitForSelector('.cm-completionInfo .wf-signature:has-text("rate(range vector) instant vector")');
      await page.keyboard.press('Enter');
      await shown('sum(rate())');
      await page.keyboard.type('shop_request_seconds_b');
      await proposed('shop_request_seconds_bucket');
      await page.waitForSelector('.cm-completionInfo:has-text("histogram · unit: seconds")');
      await page.waitForSelector('.cm-completionInfo:has-text("Time of a request.")');
      await page.keyboard.press('Tab');
      await shown('sum(rate(shop_request_seconds_bucket))');
      await page.keyboard.type('{po');
      await proposed('pod');
      await page.keyboard.press('Enter');
      // What a label has is proposed at once.
      await proposed('b');
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('Enter');
      await shown('sum(rate(shop_request_seconds_bucket{pod="b"}))');
      await page.keyboard.press('ArrowRight');
      await page.keyboard.type('[1');
      await proposed('1m');
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('Enter');
      await shown('sum(rate(shop_request_seconds_bucket{pod="b"}[1m]))');
      await page.keyboard.press('End');
      await page.keyboard.type(' b');
      await proposed('by');
      await page.keyboard.press('Enter');
      await proposed('le');
      demand((await page.$$('.cm-tooltip-autocomplete li:has-text("__name__")')).length <= 1, 'a name is proposed twice');
      await page.keyboard.type('le');
      await page.keyboard.press('Escape');
      await shown('sum(rate(shop_request_seconds_bucket{pod="b"}[1m])) by (le)');
      await page.click('.cm-content');
      await page.keyboard.press('Control+Enter');
      await page.waitForSelector('[data-chart] canvas');
      demand(complaints.length === 0, complaints.join(' | '));
    } finally {
      await close();
    }
  });

  await check('explore: completion speaks Chinese, and a server that is away does not hinder typing', async () => {
    const { page, close } = await open('/explore', { language: 'zh' });
    try {
      await page.click('.cm-content');
      await page.keyboard.type('irat');
      await page.waitForSelector('.cm-completionInfo:has-text("每秒增量")');
      await page.keyboard.press('Escape');
      await page.route('**/api/v1/completions', (route) => route.abort());
      await page.click('.cm-content');
      await page.keyboard.press('End');
      await page.keyboard.type('e(up[5m])');
      await page.waitForFunction(() => document.querySelector('.cm-content')?.textContent === 'irate(up[5m])');
      // Words have colours without the server.
      const colours = await page.$$eval('.cm-line span', (all) => new Set(all.map((one) => getComputedStyle(one).color)).size);
      demand(colours >= 3, `${colours} colours`);
    } finally {
      await close();
    }
  });

  await check('explore: an explanation marks the part that is pointed at', async () => {
    const { page, complaints, close } = await open(address(CLASSIC, { tab: 'explain' }));
    try {
      await page.waitForSelector('[data-explain] tbody tr');
      const parts = await page.$$eval('[data-explain] tbody b', (all) => all.map((one) => one.textContent));
      demand(String(parts) === 'sum,rate,shop_request_seconds_bucket', String(parts));
      await page.hover('[data-explain] tbody tr:nth-child(2)');
      const marked = await page.textContent('[data-explain] mark');
      demand(marked === 'rate(shop_request_seconds_bucket[1m])', `${marked} is marked`);
      await page.focus('[data-explain] tbody tr:nth-child(3) button');
      await page.waitForSelector('[data-explain] mark:text-is("shop_request_seconds_bucket[1m]")');
      const shares = await page.$$eval('[data-explain] td.time i', (all) => all.map((bar) => parseFloat(bar.style.width)));
      const sum = shares.reduce((total, one) => total + one, 0);
      demand(shares.length === 3 && sum > 1 && sum <= 100.5, `bars of ${shares}`);
      const samples = await page.textContent('[data-explain] tbody tr:nth-child(3) td:nth-child(5)');
      demand(/^[1-9]/.test((samples ?? '').trim()), `${samples} samples were read`);
      demand(complaints.length === 0, complaints.join(' | '));
    } finally {
      await close();
    }
  });
}
