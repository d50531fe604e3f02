// The page of the cluster: of one machine it says how to grow, of a cluster who belongs to it.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

const NARROW = 390;

export async function checkCluster({ open, check, demand }) {
  for (const [language, words, command] of [
    ['en', 'This is one machine', 'To grow to a cluster'],
    ['zh', '这是单机', '扩展为集群'],
  ]) {
    await check(`cluster: one machine says what it is and how it grows, ${language}`, async () => {
      const { page, complaints, close } = await open('/cluster', { language });
      try {
        await page.waitForSelector('[data-alone]');
        const text = await page.innerText('[data-alone]');
        demand(text.includes(words) && text.includes(command), text);
        const commands = await page.locator('[data-alone] pre').allInnerTexts();
        demand(commands.some((line) => line.includes('broker') && line.includes('--store s3://')), commands.join(' | '));
        demand(commands.some((line) => line.includes('token create --role broker')), commands.join(' | '));
        demand((await page.locator('[data-ring]').count()) === 0, 'one machine has no ring');
        await page.waitForFunction(() => /\d/.test(document.querySelector('[data-table="tenants"] td:nth-child(2)')?.textContent ?? ''), null, { timeout: 30_000 });
        demand(complaints.length === 0, complaints.join(' | '));
      } finally {
        await close();
      }
    });
  }

  await check('cluster: nothing overflows a telephone', async () => {
    const { page, close } = await open('/cluster', { width: NARROW, height: 844 });
    try {
      await page.waitForSelector('[data-verdict]');
      const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      demand(excess <= 0, `${excess} px too wide`);
    } finally {
      await close();
    }
  });

  await check('cluster: keys go there', async () => {
    const { page, close } = await open('/status');
    try {
      await page.waitForSelector('.facts');
      await page.keyboard.press('g');
      await page.keyboard.press('b');
      await page.waitForURL(/\/cluster$/);
    } finally {
      await close();
    }
  });
}

/** `base` is a broker of a cluster. */
export async function checkBrokers({ browser, base, seriousViolations, check, demand }) {
  const open = async ({ theme, language, width }) => {
    const context = await browser.newContext({ viewport: { width, height: 900 }, bypassCSP: true });
    const page = await context.newPage();
    await page.addInitScript(
      ([chosenTheme, chosenLanguage]) => {
        localStorage.setItem('watchfire.theme', JSON.stringify(chosenTheme));
        localStorage.setItem('watchfire.language', JSON.stringify(chosenLanguage));
      },
      [theme, language],
    );
    await page.goto(`${base}/cluster`);
    await page.waitForSelector('[data-ring] path');
    return { page, close: () => context.close() };
  };

  await check('cluster: brokers, votes, ring and leases are told', async () => {
    const { page, close } = await open({ theme: 'dark', language: 'en', width: 1440 });
    try {
      const rows = await page.locator('[data-members] tbody tr').allInnerTexts();
      demand(rows.length > 0 && rows.every((row) => /alive|silent|draining|left/.test(row)), rows.join(' | '));
      demand(rows.some((row) => /leader/i.test(row)), `nobody leads: ${rows.join(' | ')}`);
      const arcs = page.locator('[data-ring] [role="listitem"]');
      const labels = await arcs.evaluateAll((all) => all.map((arc) => arc.getAttribute('aria-label')));
      const whole = labels.reduce((sum, label) => sum + Number(/([\d.]+) %/.exec(label)?.[1]), 0);
      demand(Math.abs(whole - 100) < 1, `the arcs add up to ${whole} %: ${labels.join(', ')}`);
      await arcs.first().focus();
      const name = await page.innerHTML('[data-ring] .centre .name');
      demand(labels[0].startsWith(name), `the centre says ${name}, the arc is ${labels[0]}`);
      await page.keyboard.press('ArrowRight');
      const focused = await page.evaluate(() => document.activeElement?.getAttribute('aria-label'));
      demand(focused === labels[1 % labels.length], `the next arc is ${focused}`);
      const leases = await page.locator('[data-table="leases"] tbody tr').allInnerTexts();
      demand(leases.some((lease) => lease.startsWith('broker/')), leases.join(' | '));
      // A cluster that cannot lose a broker says so, and what to do.
      const codes = await page.locator('[data-findings] li').evaluateAll((all) => all.map((one) => one.dataset.code));
      if (rows.length < 3) demand(codes.includes('no_fault_tolerance'), codes.join(', '));
    } finally {
      await close();
    }
  });

  for (const theme of ['dark', 'light']) {
    await check(`cluster: axe finds nothing serious with brokers, ${theme}`, async () => {
      const { page, close } = await open({ theme, language: 'en', width: 1440 });
      try {
        const found = await seriousViolations(page);
        demand(found.length === 0, found.map(({ id, nodes }) => `${id}: ${nodes[0]?.target.join(' ')}`).join('; '));
      } finally {
        await close();
      }
    });
  }

  for (const width of [1440, 800, NARROW]) {
    await check(`cluster: nothing overflows with brokers at ${width} px`, async () => {
      const { page, close } = await open({ theme: 'light', language: 'en', width });
      try {
        const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        if (process.env.SCREENSHOTS) {
          mkdirSync(process.env.SCREENSHOTS, { recursive: true });
          await page.screenshot({ path: join(process.env.SCREENSHOTS, `cluster-${width}.png`), fullPage: true });
        }
        demand(excess <= 0, `${excess} px too wide`);
      } finally {
        await close();
      }
    });
  }
}

/** How long a broker that was lost has to be silent until it may be taken out, and some. */
const LOST_MS = 90_000;

/** `base` is a broker of a cluster with a broker `drained`, which is asked to leave, and one `lost`, which is gone. */
export async function checkLeaving({ browser, base, seriousViolations, check, demand }) {
  const open = async ({ theme = 'light', language = 'en', width = 1440, scopes, refused } = {}) => {
    const context = await browser.newContext({ viewport: { width, height: 900 }, bypassCSP: true });
    const page = await context.newPage();
    await page.addInitScript(
      ([chosenTheme, chosenLanguage]) => {
        localStorage.setItem('watchfire.theme', JSON.stringify(chosenTheme));
        localStorage.setItem('watchfire.language', JSON.stringify(chosenLanguage));
      },
      [theme, language],
    );
    if (scopes) {
      const principal = { name: 'eve', kind: 'user', scopes, tenant: '*' };
      const data = { login: 'required', setup: false, principal };
      await page.route('**/api/v1/whoami', (route) => route.fulfill({ json: { status: 'success', data } }));
    }
    if (refused) {
      const json = { status: 'error', errorType: 'unavailable', error: refused };
      await page.route('**/api/v1/whoami', (route) => route.fulfill({ status: 503, json }));
    }
    await page.goto(`${base}/cluster`);
    await page.waitForSelector(refused ? '.message' : '[data-ring] path');
    return { page, close: () => context.close() };
  };
  const row = (page, name) => page.locator('[data-members] tbody tr').filter({ has: page.locator(`b:text-is("${name}")`) });
  const way = (page, name, which) => row(page, name).locator(`[data-way="${which}"]`);

  await check('cluster: who is no administrator is offered nothing', async () => {
    const { page, close } = await open({ scopes: ['read', 'write'] });
    try {
      await page.waitForTimeout(500);
      demand((await page.locator('[data-way]').count()) === 0, 'there are buttons');
    } finally {
      await close();
    }
    const admin = await open({ scopes: ['admin'] });
    try {
      await admin.page.waitForSelector('[data-way="drain"]');
    } finally {
      await admin.close();
    }
  });

  await check('cluster: a broker that knows nobody any more says so instead of a page', async () => {
    const { page, close } = await open({ refused: 'this broker has heard of no leader' });
    try {
      demand((await page.innerText('.message')).includes('heard of no leader'), await page.innerText('.message'));
      // It comes back by itself.
      await page.unroute('**/api/v1/whoami');
      await page.waitForSelector('[data-ring] path');
    } finally {
      await close();
    }
  });

  for (const [theme, language, width, words] of [
    ['dark', 'en', 1440, ['takes no more writes', 'Nothing is lost', 'stop its process', 'Drain drained']],
    ['light', 'zh', 800, ['不再接受写入', '不会丢失数据', '停止它的进程', '让 drained 退出']],
  ]) {
    await check(`cluster: what draining does is said before, and it may be left, ${language}, ${width} px`, async () => {
      const { page, close } = await open({ theme, language, width });
      try {
        // In sight without scrolling the table.
        const box = await way(page, 'drained', 'drain').boundingBox();
        demand(box && box.x + box.width <= width, `the button is at ${JSON.stringify(box)}`);
        await way(page, 'drained', 'drain').click();
        await page.waitForSelector('[data-leaving="drain"]');
        const text = await page.innerText('dialog');
        for (const word of words) demand(text.includes(word), `${word} is not in ${text}`);
        const found = await seriousViolations(page);
        demand(found.length === 0, found.map(({ id, nodes }) => `${id}: ${nodes[0]?.target.join(' ')}`).join('; '));
        const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        demand(excess <= 0, `${excess} px too wide`);
        if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `cluster-drain-${theme}-${language}-${width}.png`) });
        await page.keyboard.press('Escape');
        await page.waitForSelector('dialog', { state: 'detached' });
        demand(/alive|存活/.test(await row(page, 'drained').innerText()), 'it drains although nobody said so');
      } finally {
        await close();
      }
    });
  }

  await check('cluster: a broker that is gone for good is taken out, and only after a while', async () => {
    const { page, close } = await open();
    try {
      await row(page, 'lost').locator('.bad').waitFor();
      // One that was heard of a moment ago may be starting.
      await page.route('**/api/v1/status/cluster', async (route) => {
        const response = await route.fetch();
        const answer = await response.json();
        for (const member of answer.data.members) if (member.name === 'lost') member.silentMs = 9_000;
        await route.fulfill({ response, json: answer });
      });
      await page.waitForTimeout(3_500);
      await way(page, 'lost', 'remove').click();
      await page.waitForSelector('[data-hindrance="recent"]');
      demand(await page.locator('[data-confirm]').isDisabled(), 'it can be removed');
      await page.unroute('**/api/v1/status/cluster');
      // The dialog follows what is told.
      await page.waitForSelector('[data-hindrance]', { state: 'detached', timeout: LOST_MS });
      await page.click('[data-confirm]');
      await page.waitForSelector('[data-gone="lost"]');
      await page.waitForFunction(() => !document.querySelector('[data-members]')?.textContent?.includes('lost'));
      const { data } = await (await fetch(`${base}/api/v1/certificates`)).json();
      demand(!data.certificates.some(({ name, role }) => role === 'broker' && name === 'lost'), 'its name is taken still');
    } finally {
      await close();
    }
  });

  await check('cluster: a broker is drained from the page of another one', async () => {
    const { page, close } = await open();
    try {
      await way(page, 'drained', 'drain').click();
      // A broker that votes leaves when the others have a majority without it.
      await page.waitForSelector('[data-hindrance]', { state: 'detached', timeout: 60_000 });
      await page.click('[data-confirm]');
      await page.waitForSelector('dialog', { state: 'detached' });
      const told = await page.waitForSelector('[data-gone="drained"]', { timeout: 60_000 });
      demand((await told.innerText()).includes('its process may be stopped'), await told.innerText());
      demand((await row(page, 'drained').count()) === 0, 'it is listed still');
    } finally {
      await close();
    }
  });
}
