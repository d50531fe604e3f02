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
