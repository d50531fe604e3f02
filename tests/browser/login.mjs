// A server that wants a login, from its setup link to its last token.
//
// The checks follow one another: each finds the server as the one before left it.

const PASSWORD = 'a long enough password';

/** `link` is the setup link that the server printed; its certificate is of its own authority. */
export async function checkLogin({ browser, check, demand, settings, link }) {
  const origin = new URL(link).origin;
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  page.setDefaultTimeout(settings.timeoutMs);
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(`uncaught ${error.message}`));
  page.on('console', (message) => {
    // A refused password is a 401, which Chromium calls an error.
    if (message.type() === 'error' && !message.text().includes('401')) complaints.push(message.text());
  });
  await page.addInitScript(() => {
    localStorage.setItem('watchfire.language', '"en"');
    addEventListener('securitypolicyviolation', (event) => console.error(`CSP violation: ${event.violatedDirective}`));
  });

  const logIn = async (user, password) => {
    await page.fill('input[name="username"]', user);
    await page.fill('input[name="password"]', password);
    await page.click('button[type="submit"]');
  };

  await check('login: nothing is shown before, on any page', async () => {
    for (const path of ['/', '/explore', '/access']) {
      await page.goto(origin + path);
      await page.waitForSelector('input[name="password"]');
      demand((await page.$('nav:visible')) === null, `${path} shows the navigation`);
    }
    const response = await context.request.get(`${origin}/api/v1/query?query=up`);
    demand(response.status() === 401, `a query was answered with ${response.status()}`);
  });

  await check('login: the setup link makes the first user, who is then logged in', async () => {
    await page.goto(link);
    await page.fill('input[name="username"]', 'admin');
    await page.fill('input[name="new-password"]', PASSWORD);
    await page.fill('input[name="again"]', 'another password');
    await page.click('button[type="submit"]');
    await page.waitForSelector('.fault:has-text("differ")');
    await page.fill('input[name="again"]', PASSWORD);
    await page.click('button[type="submit"]');
    await page.waitForSelector('nav:visible');
    demand(new URL(page.url()).hash === '', 'the token is still in the address');
    const cookie = (await context.cookies()).find(({ httpOnly }) => httpOnly);
    demand(cookie?.secure && cookie.sameSite !== 'None', `the cookie is ${JSON.stringify(cookie)}`);
  });

  await check('login: logged out, a wrong password is told, the right one enters', async () => {
    await page.click('button.user');
    await page.waitForSelector('input[name="password"]');
    await logIn('admin', 'not the password');
    await page.waitForSelector('[role="alert"]:has-text("wrong")');
    await logIn('admin', PASSWORD);
    await page.waitForSelector('nav:visible');
  });

  await check('login: with a way out in it, the header still fits into 800 px', async () => {
    await page.setViewportSize({ width: 800, height: 900 });
    const excess = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await page.setViewportSize({ width: 1280, height: 900 });
    demand(excess <= 0, `${excess} px too wide`);
  });

  await check('access: a token is made, shown once, works, and is revoked', async () => {
    await page.goto(`${origin}/access`);
    await page.fill('input[name="new-token"]', 'grafana');
    await page.click('button:has-text("Make token")');
    const token = (await page.textContent('[data-secret="token"] code')).trim();
    const ask = () => fetchWith(browser, origin, token);
    demand((await ask()) === 200, 'the token is not taken');
    await page.reload();
    await page.waitForSelector('td.name:has-text("grafana")');
    demand(!(await page.content()).includes(token), 'the token is shown again');
    await page.click('button[aria-label="Revoke grafana"]');
    await page.click('button[aria-label^="Revoke grafana: "]');
    await page.waitForSelector('td.name:has-text("grafana")', { state: 'detached' });
    demand((await ask()) === 401, 'the revoked token is still taken');
  });

  await check('access: a join token gives the command for the next host', async () => {
    await page.click('button:has-text("Make command")');
    const command = await page.textContent('[data-secret="join"] code');
    demand(/^watchfire agent --broker \S+ --join \S+$/.test(command.trim()), `it is ${command}`);
  });

  await check('access: a user is added, given more, and deleted; the last administrator stays', async () => {
    await page.fill('input[name="new-user"]', 'ada');
    await page.fill('input[name="new-user-password"]', PASSWORD);
    await page.click('button:has-text("Add user")');
    const write = '[role="group"][aria-label="What ada may do"] label:has-text("write") input';
    await page.click(write);
    await page.waitForSelector(`${write}:checked`);
    for (const name of ['admin', 'ada']) {
      await page.click(`button[aria-label="Delete ${name}"]`);
      await page.click(`button[aria-label^="Delete ${name}: "]`);
      if (name === 'admin') await page.waitForSelector('section [role="alert"]');
    }
    await page.waitForSelector('td.name:has-text("ada")', { state: 'detached' });
    await page.waitForSelector('td.name:has-text("admin")');
  });

  await check('login: the way through ran without other errors or CSP violations', async () => {
    // Deleting the last administrator is refused, with 409.
    const others = complaints.filter((complaint) => !complaint.includes('409'));
    demand(others.length === 0, others.join(' | '));
  });
  await context.close();
}

/** How a query with a token, and nothing else, is answered. */
async function fetchWith(browser, origin, token) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  try {
    const headers = { Authorization: `Bearer ${token}` };
    return (await context.request.get(`${origin}/api/v1/query?query=up`, { headers })).status();
  } finally {
    await context.close();
  }
}
