// The chooser in the header: it is there once there are two tenants, and then every page is of the one
// that was chosen, also after a reload.

const TENANT = 'browser-acme';
const CHOOSER = 'select[data-action="tenant"]';

async function write(base) {
  const headers = { 'X-Scope-OrgID': TENANT };
  const body = 'only_of_acme{who="acme"} 42\n';
  const response = await fetch(`${base}/api/v1/import/prometheus`, { method: 'POST', headers, body });
  if (!response.ok) throw new Error(`import answered ${response.status}: ${await response.text()}`);
}

export async function checkTenants({ base, open, check, demand }) {
  await check('tenants: where there is one, nothing is to choose', async () => {
    const { page, close } = await open('/');
    try {
      await page.waitForSelector('a.card h2');
      demand((await page.locator(CHOOSER).count()) === 0, 'there is a chooser');
    } finally {
      await close();
    }
  });

  await check('tenants: a second one writes', () => write(base));

  for (const [language, theme] of [['en', 'dark'], ['zh', 'light']]) {
    await check(`tenants: the chosen one is asked for everywhere, and stays chosen (${language}, ${theme})`, async () => {
      const { page, complaints, close } = await open('/', { language, theme });
      try {
        const chooser = page.locator(CHOOSER);
        await chooser.waitFor();
        demand((await chooser.inputValue()) === 'default', `chosen is ${await chooser.inputValue()}`);
        await page.waitForSelector('a.card h2');
        const asked = [];
        const sockets = [];
        page.on('request', (request) => {
          const { pathname } = new URL(request.url());
          if (!pathname.startsWith('/api/')) return;
          asked.push([pathname, request.headers()['x-scope-orgid'] ?? '']);
        });
        page.on('websocket', (socket) => sockets.push(socket.url()));
        // What the page before still asked, up to the moment it went, was rightly of its own tenant.
        page.on('framenavigated', () => {
          asked.length = 0;
          sockets.length = 0;
        });
        await Promise.all([page.waitForEvent('load'), chooser.selectOption(TENANT)]);
        await chooser.waitFor();
        demand((await chooser.inputValue()) === TENANT, `after the reload it is ${await chooser.inputValue()}`);
        await page.waitForTimeout(1_500);
        demand((await page.locator('a.card h2').count()) === 0, 'hosts of the default tenant are shown');
        const wrong = asked.filter(([path, tenant]) => tenant !== (path === '/api/v1/tenants' ? '' : TENANT));
        demand(asked.length > 2 && wrong.length === 0, `asked for another one: ${JSON.stringify(wrong)}`);
        demand(sockets.length > 0 && sockets.every((url) => url.endsWith(`?tenant=${TENANT}`)), `sockets: ${sockets}`);
        await page.goto(`${base}/cardinality`);
        await page.locator('main').getByText('only_of_acme').first().waitFor();
        demand(!(await page.locator('main').innerText()).includes('node_'), 'names of the default tenant are shown');
        await Promise.all([page.waitForEvent('load'), chooser.selectOption('default')]);
        await page.goto(`${base}/`);
        await page.waitForSelector('a.card h2');
        demand(complaints.length === 0, complaints.join(' | '));
      } finally {
        await close();
      }
    });
  }
}
