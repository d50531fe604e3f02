// The page of cardinality: where series come from, what is new since yesterday, narrowed by rows and labels.

const DAY_MS = 86_400_000;

/** Of 30 pods yesterday 20 are there today, and 40 new ones. */
async function importTwoDays(base) {
  const now = Date.now();
  const pod = (n, at) => `census_requests_total{job="census",pod="web-${n}"} ${n} ${at}`;
  const lines = [
    ...Array.from({ length: 30 }, (_, n) => pod(n, now - DAY_MS)),
    ...Array.from({ length: 60 }, (_, n) => pod(n + 10, now)),
    ...Array.from({ length: 5 }, (_, n) => `census_legacy{job="census",id="${n}"} 1 ${now - DAY_MS}`),
  ];
  const response = await fetch(`${base}/api/v1/import/prometheus`, { method: 'POST', body: `${lines.join('\n')}\n` });
  if (!response.ok) throw new Error(`import answered ${response.status}: ${await response.text()}`);
}

export async function checkCardinality({ base, open, check, demand }) {
  await check('cardinality: series of two days are stored', () => importTwoDays(base));

  const only = `/cardinality?${new URLSearchParams({ match: '{job="census"}' })}`;
  const cells = (page, name) =>
    page.$$eval('main section tbody tr', (rows, wanted) => {
      const row = rows.find((one) => one.querySelector('button').textContent === wanted);
      return row ? [...row.children].map((cell) => cell.textContent.trim()) : null;
    }, name);

  await check('cardinality: two days are compared', async () => {
    const { page, complaints, close } = await open(only);
    try {
      await page.waitForSelector('.facts dd');
      const facts = await page.$$eval('.facts dd:not(.note)', (all) => all.map((one) => one.textContent));
      // 60 today, 35 before; 40 new, 15 gone.
      demand(String(facts.filter((_, i) => i !== 1)) === '60,40,15', String(facts));
      const requests = await cells(page, 'census_requests_total');
      demand(String(requests) === 'census_requests_total,60,100.0 %,+30,40', String(requests));
      const legacy = await cells(page, 'census_legacy');
      demand(String(legacy) === 'census_legacy,0,0.0 %,−5,0', String(legacy));
      demand(complaints.length === 0, complaints.join(' | '));
    } finally {
      await close();
    }
  });

  await check('cardinality: rows narrow it, a label tells its values, and days go back', async () => {
    const { page, close } = await open(only);
    try {
      await page.click('main section button:text-is("census_legacy")');
      await page.waitForURL((url) => url.searchParams.get('match') === '{job="census", __name__="census_legacy"}');
      await page.click('main section button:text-is("id")');
      await page.waitForURL(/focus=id/);
      await page.waitForSelector('main section h2:has-text("id")');
      await page.click('button[aria-label="The day before"]');
      await page.waitForURL(/date=\d{4}-\d{2}-\d{2}/);
      await page.waitForFunction(() => document.querySelector('.facts dd')?.textContent === '5');
      await page.selectOption('main select >> nth=0', 'none');
      await page.waitForURL(/against=none/);
      await page.waitForFunction(() => document.querySelectorAll('.facts > div').length === 2);
    } finally {
      await close();
    }
  });

  await check('cardinality: what is no selector is told', async () => {
    const { page, close } = await open('/cardinality');
    try {
      await page.waitForSelector('.facts dd');
      await page.fill('main input[type="search"] >> nth=0', '{job=');
      await page.keyboard.press('Enter');
      await page.waitForSelector('main .message code:has-text("parse error")');
      await page.fill('main input[type="search"] >> nth=0', '');
      await page.waitForFunction(() => document.querySelector('main .message') === null);
    } finally {
      await close();
    }
  });
}
