// The page of queries: one that takes minutes is listed while it runs, and stopped.

/** Takes a minute or more: of each of 200 series, at 3,601 steps, 21,600 steps in each. */
export const SLOW = 'sum(quantile_over_time(0.9, rate(slow_query_source[5m])[6h:1s]))';

async function importSource(base) {
  const now = Date.now();
  const lines = [];
  for (let n = 0; n < 200; n++) {
    for (let step = 240; step >= 0; step--) lines.push(`slow_query_source{n="${n}"} ${240 - step} ${now - step * 15_000}`);
  }
  const response = await fetch(`${base}/api/v1/import/prometheus`, { method: 'POST', body: `${lines.join('\n')}\n` });
  if (!response.ok) throw new Error(`import answered ${response.status}: ${await response.text()}`);
}

/** Asks the slow query; the answer comes once somebody has stopped it. */
function ask(base) {
  const now = Date.now() / 1000;
  const body = new URLSearchParams({ query: SLOW, start: String(now - 3600), end: String(now), step: '1', timeout: '2m' });
  return fetch(`${base}/api/v1/query_range`, { method: 'POST', body }).then(async (response) => ({
    status: response.status,
    text: await response.text(),
  }));
}

export async function checkQueries({ base, open, check, demand }) {
  await check('queries: a source for a slow query is stored', () => importSource(base));

  await check('queries: one that runs is listed with its figures and stopped at the second press', async () => {
    const { page, complaints, close } = await open('/queries');
    try {
      await page.waitForSelector('[data-running]');
      const asked = ask(base);
      const row = page.locator('section:has(#running-title) tbody tr').filter({ hasText: 'slow_query_source' });
      await row.waitFor();
      const figures = () => row.locator('td').allInnerTexts();
      const first = await figures();
      demand(first[1].startsWith('1h') && first[1].includes('1s'), `range and step are ${first[1]}`);
      demand(/^127\.0\.0\.1:\d+$/.test(first[5].trim()), `it was asked from ${first[5]}`);
      await page.waitForFunction((before) => {
        const cell = [...document.querySelectorAll('section:has(#running-title) tbody tr')]
          .find((tr) => tr.textContent.includes('slow_query_source'))?.children[2];
        return cell !== undefined && cell.textContent.trim() !== before;
      }, first[2].trim());
      const stop = row.locator('button');
      await stop.focus();
      await page.keyboard.press('Enter');
      demand((await stop.innerText()).includes('Really?'), 'it does not ask first');
      await page.waitForTimeout(1500);
      demand((await row.count()) === 1, 'the first press stopped it');
      await page.keyboard.press('Enter');
      const answer = await asked;
      demand(answer.status === 499 && answer.text.includes('stopped by an administrator'), `${answer.status}: ${answer.text}`);
      await row.waitFor({ state: 'detached' });
      demand(complaints.length === 0, complaints.join(' | '));
    } finally {
      await close();
    }
  });

  await check('queries: what was expensive is listed, by any figure, and opens in Explore', async () => {
    const { page, close } = await open('/queries');
    try {
      const first = page.locator('section:has(#recent-title) tbody tr').first();
      await first.filter({ hasText: 'slow_query_source' }).waitFor();
      await page.click('section:has(#recent-title) th button:text-is("Times")');
      await page.waitForURL(/by=count/);
      await page.waitForSelector('th[aria-sort="descending"] button:text-is("Times")');
      const counts = await page.$$eval('section:has(#recent-title) td.chosen', (cells) => cells.map((cell) => Number(cell.innerText)));
      const plain = counts.filter((count) => !Number.isNaN(count));
      demand(plain.length > 0 && plain.every((count, i) => i === 0 || count <= plain[i - 1]), `the order is ${counts}`);
      await page.click('section:has(#recent-title) th button:text-is("Together")');
      await page.waitForURL(/by=sumDurationSeconds/);
      await page.fill('section:has(#recent-title) input[type="search"]', 'slow_query');
      await page.waitForFunction(() => document.querySelectorAll('section:has(#recent-title) tbody tr').length === 1);
      await page.locator('section:has(#recent-title) td a').evaluate((link) => {
        if (!new URL(link.href).searchParams.get('q').startsWith('sum(')) throw new Error(link.href);
      });
    } finally {
      await close();
    }
  });
}
