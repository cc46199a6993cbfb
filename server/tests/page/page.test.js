// The live page in Chromium, against a server of its own. The tests lock through the playground of the page. They
// wait for conditions, and for a limited time.
//
//   cargo build -p locktopus-server && cd server/tests/page && npm install --no-package-lock
//   SERVER=../../../target/debug/locktopus-server node --test
//
// CHROMIUM names another browser than /usr/bin/chromium.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';

const PATIENCE_MS = 15_000;
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

let server;
let browser;
let origin;

before(async () => {
  server = spawn(process.env.SERVER, ['--host', '127.0.0.1', '--port', '0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await once(createInterface(server.stdout), 'line');
  origin = `http://${/^listening on (.*:\d+)$/.exec(line)[1]}`;
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS, timeout: 60_000 });
});

after(async () => {
  await browser?.close();
  const exit = once(server, 'exit');
  server.kill('SIGTERM');
  const giveUp = setTimeout(() => server.kill('SIGKILL'), PATIENCE_MS);
  const [code] = await exit;
  clearTimeout(giveUp);
  assert.equal(code, 0);
});

/**
 * A new page. The test fails if an error that `expected` does not match appears in its console, or if it sends a
 * request to another host.
 */
async function open(t, { path = '/', expected, prepare, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const errors = [];
  const elsewhere = [];
  const seen = (url) => new URL(url).host === new URL(origin).host || elsewhere.push(url);
  page.on('console', (message) => message.type() === 'error' && !expected?.test(message.text()) && errors.push(message.text()));
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('dialog', (dialog) => { errors.push(`a dialog: ${dialog.message()}`); return dialog.dismiss(); });
  page.on('request', (request) => seen(request.url()));
  page.on('websocket', (socket) => seen(socket.url()));
  t.after(async () => {
    await context.close();
    assert.deepEqual(errors, []);
    assert.deepEqual(elsewhere, []);
  });
  await prepare?.(page);
  const answer = await page.goto(origin + path);
  assert.match(answer.headers()['content-security-policy'] ?? '', /^default-src 'none'/, 'the page works under its policy');
  return page;
}

/** Opens a connection in the playground, ready to lock `path`. With an abandon timeout of 0 it leaves no lock behind. */
async function connection(page, namespace, client, path, mode = 'write') {
  await page.getByLabel('Namespace', { exact: true }).fill(namespace);
  await page.getByLabel('Client name').fill(client);
  await page.getByLabel('Abandon timeout').fill('0');
  const card = page.getByTestId('connection').nth(await page.getByTestId('connection').count());
  await page.getByRole('button', { name: 'Open a connection' }).click();
  await state(card, 'ready');
  await card.getByLabel('Mode').selectOption(mode);
  await card.getByLabel('Path', { exact: true }).fill(path);
  return card;
}

const state = (card, name) => card.getByTestId('state').getByText(name, { exact: true }).waitFor();
const press = (card, name) => card.getByRole('button', { name, exact: true }).click();
const token = async (card) => /\d+$/.exec(await card.getByTestId('state').textContent())[0];
const row = (page, client) => page.getByTestId('request').filter({ hasText: client });

/** Two connections, of which the first holds and the second waits. */
async function contention(page, namespace, path = 'a/b') {
  const first = await connection(page, namespace, 'first', path);
  await press(first, 'Lock');
  await state(first, 'acquired');
  const second = await connection(page, namespace, 'second', path);
  await press(second, 'Lock');
  await state(second, 'enqueued');
  return [first, second];
}

/** Waits until the page has polled once more from now on. */
async function polled(page) {
  await page.waitForResponse((answer) => answer.url().includes('/namespaces'));
  await page.waitForResponse((answer) => answer.url().includes('/namespaces'));
}

test('an enqueued connection acquires the lock when the first one releases it', async (t) => {
  const page = await open(t);
  const [first, second] = await contention(page, 'turns');
  await press(first, 'Release');
  await state(second, 'acquired');
  await state(first, 'ready');
  const log = await second.getByTestId('log').textContent();
  assert.match(log, /"action":"lock","resources":\[\{"type":"write","path":\["a","b"\]\}\].*enqueued.*acquired/);
  await press(second, 'Close');
  await state(second, 'closed');
});

test('the tree shows holders and waiting requests with their blockers', async (t) => {
  const page = await open(t);
  const [first, second] = await contention(page, 'tree', 'a/b\\/c');
  const node = page.locator('[data-testid=node][data-path="a/b\\\\/c"]');
  const holder = row(node, 'first');
  await holder.getByText('holds', { exact: true }).waitFor();
  await holder.getByText('write', { exact: true }).waitFor();
  await holder.getByText(/^127\.0\.0\.1:\d+$/).waitFor();
  await holder.getByText(await token(first)).waitFor();
  const waiter = row(node, 'second');
  await waiter.getByText('waits for', { exact: true }).waitFor();
  assert.equal(await waiter.getAttribute('data-token'), await token(second));
  await waiter.getByRole('button', { name: await token(first), exact: true }).click();
  assert.equal(await page.evaluate(() => document.activeElement.dataset.token), await token(first), 'the link goes to the holder');
  await page.getByTestId('namespace').filter({ hasText: 'tree' }).getByText(/2\sconnected · 1\sheld · 1\swaiting/).waitFor();
  await page.getByRole('searchbox').fill('elsewhere');
  await page.getByText('Nothing is locked at, above or below this path.').waitFor();
  assert.equal(await page.getByTestId('request').count(), 0);
});

test('a path filter shows only the paths above, at and below it', async (t) => {
  const page = await open(t);
  // A read does not cover the write below it; a covered path would not be listed.
  const card = await connection(page, 'filter', 'first', 'x', 'read');
  for (const path of ['x/y/z', 'x/w', 'v']) {
    await press(card, 'Add a path');
    await card.getByLabel('Path', { exact: true }).last().fill(path);
  }
  await press(card, 'Lock');
  await state(card, 'acquired');
  await page.locator('[data-testid=node][data-path=v]').waitFor();
  await page.getByRole('searchbox').fill('x/y');
  await page.locator('[data-testid=node][data-path=v]').waitFor({ state: 'detached' });
  const paths = await page.getByTestId('node').evaluateAll((nodes) => nodes.map((node) => node.dataset.path));
  assert.deepEqual(paths, ['x', 'x/y/z']);
  await row(page, 'first').first().getByText(/3 more paths/).waitFor();
  assert.ok(page.url().endsWith('/locks?namespace=filter&path=x%2Fy'));
});

test('paths are read and written in the notation of the server', async (t) => {
  const page = await open(t, { expected: /400/ });
  const card = await connection(page, 'notation', 'first', 'a\\b');
  await press(card, 'Lock');
  await card.getByTestId('problem').getByText(/unknown escape/).waitFor();
  const written = 'a\\/b\\\\/\\u{1}/\\e/c';
  await card.getByLabel('Path', { exact: true }).fill(written);
  await press(card, 'Lock');
  await state(card, 'acquired');
  assert.match(await card.getByTestId('log').textContent(), /"path":\["a\/b\\\\","\\u0001","","c"\]/);
  await page.getByRole('searchbox').fill(written);
  await page.getByTestId('node').getByText(written, { exact: true }).waitFor();
  await page.getByRole('searchbox').fill('a\\b');
  await page.locator('#locks-problem').getByText(/unknown escape/).waitFor();
  for (const path of ['a//b', '/a', 'a/', '/']) {
    await page.getByRole('searchbox').fill(path);
    await page.locator('#locks-problem').getByText(/empty segment/).waitFor();
    const { status, body } = await page.evaluate(async (path) => {
      const answer = await fetch(`locks?${new URLSearchParams({ namespace: 'notation', path })}`, { headers: { Accept: 'application/json' } });
      return { status: answer.status, body: await answer.json() };
    }, path);
    assert.deepEqual([status, body.code], [400, 'bad_request'], 'the server refuses it as well');
    assert.match(body.error, /empty segment/);
  }
  for (const path of ['\\u{110000}', '\\u{d800}', '\\u{}', 'a\\']) {
    await page.getByRole('searchbox').fill(path);
    await page.locator('#locks-problem').getByText(/unknown escape/).waitFor();
  }
  await page.getByRole('searchbox').fill('');
  await press(card, 'Release');
  await card.getByLabel('Path', { exact: true }).fill('\\e');
  await press(card, 'Lock');
  await page.getByTestId('node').getByText('\\e', { exact: true }).waitFor();
  await press(card, 'Release');
  await card.getByLabel('Path', { exact: true }).fill('x/\\e/\\e');
  await press(card, 'Lock');
  await page.getByTestId('node').getByText('x/\\e/\\e', { exact: true }).waitFor();
  await press(card, 'Release');
  await card.getByLabel('Path', { exact: true }).fill('');
  await press(card, 'Lock');
  await page.getByTestId('node').getByText('the root: everything', { exact: true }).waitFor();
});

test('namespace and path of the address are chosen at the start', async (t) => {
  const page = await open(t, { path: `/locks?${new URLSearchParams({ namespace: 'the & address', path: 'a/b' })}` });
  assert.equal(await page.getByRole('searchbox').inputValue(), 'a/b');
  await page.getByRole('heading', { name: 'Locks in the & address' }).waitFor();
  await contention(page, 'the & address');
  await row(page, 'second').waitFor();
  assert.equal(page.url(), `${origin}/locks?namespace=the+%26+address`);
});

test('a release by force reports to the holder and grants the next request', async (t) => {
  const page = await open(t);
  const [first, second] = await contention(page, 'force');
  const held = await token(first);
  const release = row(page, 'first').getByRole('button', { name: /by force/ });
  await release.click();
  await page.getByRole('button', { name: 'Keep it' }).click();
  await state(first, 'acquired');
  await release.click();
  await page.getByRole('button', { name: 'Release by force', exact: true }).click();
  await first.getByTestId('problem').getByText(`lock ${held} was released by force`).waitFor();
  await state(first, 'closed');
  await state(second, 'acquired');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  await row(page, 'first').waitFor({ state: 'detached' });
  await press(first, 'Open again');
  await state(first, 'ready');
});

test('a refused release shows the answer of the server', async (t) => {
  const page = await open(t, { expected: /404/ });
  const [first] = await contention(page, 'refused');
  await row(page, 'first').getByRole('button', { name: /by force/ }).click();
  // Released while the dialog is open. A person could not click through the modal dialog.
  await first.getByRole('button', { name: 'Release', exact: true }).evaluate((button) => button.click());
  await row(page, 'first').waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Release by force', exact: true }).click();
  const problem = page.getByRole('dialog').getByRole('alert');
  await problem.filter({ hasText: /\w/ }).waitFor();
  await page.keyboard.press('Escape');
  await problem.waitFor({ state: 'hidden' });
});

test('HTML in paths, names and namespaces is shown as text', async (t) => {
  const page = await open(t);
  const evil = '<img src=x onerror="document.title=\'run\'"><b>bold</b>';
  const card = await connection(page, evil, `client ${evil}`, evil.replaceAll('/', '\\/'));
  await press(card, 'Lock');
  await state(card, 'acquired');
  await row(page, `client ${evil}`).waitFor();
  await page.getByTestId('node').getByText(evil.replaceAll('/', '\\/'), { exact: true }).waitFor();
  await page.getByTestId('namespace').getByText(evil, { exact: true }).waitFor();
  await row(page, evil).getByRole('button', { name: /by force/ }).click();
  await page.getByRole('dialog').getByText(`write ${evil.replaceAll('/', '\\/')}`).waitFor();
  assert.equal(await page.locator('img, main b:not(.token b)').count(), 0);
  assert.equal(await page.title(), 'Locktopus');
});

test('an update keeps the focus and the closed nodes', async (t) => {
  const page = await open(t);
  const [first] = await contention(page, 'still', 'a');
  const other = await connection(page, 'still', 'third', 'z');
  const summary = page.locator('[data-testid=node][data-path=a] summary');
  await summary.click();
  await row(page, 'second').waitFor({ state: 'hidden' });
  await press(other, 'Lock');
  await state(other, 'acquired');
  await summary.focus();
  await page.locator('[data-testid=node][data-path=z]').waitFor();
  await polled(page);
  assert.ok(await summary.evaluate((element) => element === document.activeElement));
  assert.ok(await row(page, 'second').isHidden());
  await summary.press('Enter');
  await row(page, 'first').getByRole('button', { name: /by force/ }).focus();
  await first.getByRole('button', { name: 'Release', exact: true }).evaluate((button) => button.click());
  await row(page, 'first').waitFor({ state: 'detached' });
  assert.equal(await page.evaluate(() => document.activeElement.id), 'locks-title', 'the focus goes to the title');
});

test('the page says that a listing is cut, and shows requests of unknown connections', async (t) => {
  const lock = (token, path) => ({ token, state: 'waiting', since_ms: 3_723_000, waits_for: null, connection: null, resources: [{ type: 'read', path }] });
  const many = Array.from({ length: 2100 }, (_, i) => ({ type: 'write', path: ['many', `${i}`] }));
  const deep = Array.from({ length: 1000 }, (_, i) => lock(`${i + 10}`, Array(i + 1).fill('deep')));
  const listing = { namespace: 'x', last_token: '9', truncated: true, requests: [lock('1', []), ...deep, { ...lock('2000', []), resources: many }] };
  const page = await open(t, { prepare: async (page) => {
    await page.route('**/namespaces', (route) => route.fulfill({ json: { version: '0', uptime_ms: 0, connections: 0,
      namespaces: [{ namespace: 'x', connections: 0, acquired: 0, waiting: 1002, resources: 3101, last_token: '9' }] } }));
    await page.route('**/locks?*', (route) => route.fulfill({ json: listing }));
  } });
  await page.getByText('Only the first 1002 requests are shown').waitFor();
  await page.getByText('Only the first 2000 of their paths are shown').waitFor();
  const root = page.getByTestId('node').filter({ hasText: 'the root: everything' });
  await root.getByText('unknown connection').waitFor();
  await root.getByText('for 1 h 02 min').waitFor();
  assert.equal(await page.getByTestId('request').count(), 2000);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth));
});

test('more requests are loaded a page at a time', async (t) => {
  const lock = (i) => ({ token: `${i}`, state: 'acquired', since_ms: 0, waits_for: null, connection: null, resources: [{ type: 'write', path: [`p${i}`] }] });
  const asked = [];
  const page = await open(t, { prepare: async (page) => {
    await page.route('**/namespaces', (route) => route.fulfill({ json: { version: '0', uptime_ms: 0, connections: 0,
      namespaces: [{ namespace: 'x', connections: 0, acquired: 3, waiting: 0, resources: 3, last_token: '9' }] } }));
    await page.route('**/locks?*', (route) => {
      const query = new URL(route.request().url()).searchParams, after = query.get('after');
      asked.push(after);
      // The first page is full, as far as the page knows; an empty one follows, which is legal.
      const pages = {
        null: { requests: Array.from({ length: Number(query.get('limit')) }, (_, i) => lock(i)), truncated: true, next: 'one' },
        one: { requests: [], truncated: true, next: 'two' },
        two: { requests: [lock(5000)], truncated: false },
      };
      return route.fulfill({ json: { namespace: 'x', last_token: '9', ...pages[after] } });
    });
  } });
  await page.getByText('Only the first 500 requests are shown').waitFor();
  assert.deepEqual([...new Set(asked)], [null]);
  await page.getByRole('button', { name: 'Load more requests' }).click();
  await page.getByText('501 locks held').waitFor();
  await page.getByText('requests that came or went meanwhile may be missing').waitFor();
  assert.ok(asked.includes('one') && asked.includes('two'));
  assert.ok(await page.getByRole('button', { name: 'Load more requests' }).isHidden());
  assert.equal(await page.evaluate(() => document.activeElement.id), 'locks-title', 'the focus goes to the title');
});

test('invisible characters of names and paths are escaped', async (t) => {
  const page = await open(t);
  const [evil, shown] = ['b\u202ea\u2066\u200b\u{e0041}', 'b\\u{202e}a\\u{2066}\\u{200b}\\u{e0041}'];
  const card = await connection(page, `n${evil}`, `c${evil}`, `p${evil}`);
  await press(card, 'Lock');
  await state(card, 'acquired');
  await page.getByTestId('namespace').getByText(`n${shown}`, { exact: true }).waitFor();
  await page.getByTestId('node').getByText(`p${shown}`, { exact: true }).waitFor();
  await row(page, `c${shown}`).waitFor();
  await row(page, `c${shown}`).getByRole('button', { name: /by force/ }).click();
  await page.getByRole('dialog').getByText(`write p${shown}`).waitFor();
  await page.keyboard.press('Escape');
  // The path that is shown reads back as the same path.
  await page.getByRole('searchbox').fill(`p${shown}`);
  await page.getByText('1 lock held').waitFor();
  assert.ok(!/[\u200b\u202e\u2066]/.test(await page.evaluate(() => document.body.innerText)));
});

test('the page warns where every program on the network can use the server', async (t) => {
  for (const isOpen of [true, false]) {
    const page = await open(t, { prepare: async (page) => {
      await page.route('**/namespaces', (route) => route.fulfill({ json: { version: '0', uptime_ms: 0, connections: 0, namespaces: [], open: isOpen } }));
    } });
    await page.locator('#live').getByText('live', { exact: true }).waitFor();
    assert.equal(await page.getByRole('alert').getByText('Every program on the network can use this server').isVisible(), isOpen);
  }
});

test('the page fits into a width of 360 pixels', async (t) => {
  const page = await open(t, { viewport: { width: 360, height: 740 } });
  const fits = async (what) => assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), what);
  await fits('at first');
  await contention(page, 'a-namespace-with-a-name-'.repeat(4), `${'a-long-segment-'.repeat(8)}/b`);
  const deep = await connection(page, 'a-namespace-with-a-name-'.repeat(4), `client-${'x'.repeat(90)}`, 'e', 'read');
  for (let depth = 2; depth <= 12; depth++) {
    await press(deep, 'Add a path');
    await deep.getByLabel('Path', { exact: true }).last().fill(`${'d/'.repeat(depth - 1)}e`);
  }
  await press(deep, 'Lock');
  await state(deep, 'acquired');
  await page.locator(`[data-path="${'d/'.repeat(11)}e"] [data-testid=request]`).waitFor();
  await fits('with long names and deep paths');
  const outside = await page.locator('main button:visible').evaluateAll((buttons) => buttons.filter((button) => {
    const { left, right } = button.getBoundingClientRect();
    return left < 0 || right > window.innerWidth;
  }).length);
  assert.equal(outside, 0, 'every button is inside the page');
  await row(page, 'second').getByRole('button', { name: /by force/ }).click();
  await fits('with the dialog');
});

test('the page works with the keyboard alone', async (t) => {
  const page = await open(t);
  const focused = () => page.evaluate(() => {
    const { activeElement: element } = document;
    const label = element.getAttribute('aria-label') ?? element.labels?.[0]?.textContent ?? element.textContent;
    const visible = element.matches(':focus-visible') && getComputedStyle(element).outlineStyle !== 'none';
    return { label: label.trim(), visible };
  });
  /** Presses Tab, or another key, until the named element has the focus. The focus must be visible. */
  const tabTo = async (name, key = 'Tab') => {
    for (let presses = 0; presses < 80; presses++) {
      await page.keyboard.press(key);
      const { label, visible } = await focused();
      if (label === name) return assert.ok(visible, `${name} has a visible focus`);
    }
    assert.fail(`${name} is not reached by ${key}`);
  };
  const cards = page.getByTestId('connection');
  await tabTo('Namespace');
  await page.keyboard.type('keys');
  await tabTo('Abandon timeout, ms');
  await page.keyboard.type('0');
  await tabTo('Open a connection');
  await page.keyboard.press('Enter');
  await state(cards.nth(0), 'ready');
  await page.keyboard.press('Enter');
  await state(cards.nth(1), 'ready');
  for (const [name, becomes] of [['page-1', 'acquired'], ['page-2', 'enqueued']]) {
    await tabTo('Path');
    await page.keyboard.type('a/b');
    await tabTo('Lock');
    await page.keyboard.press('Space');
    await state(cards.filter({ hasText: name }), becomes);
  }
  const held = await token(cards.nth(0));
  await tabTo('Release', 'Shift+Tab');
  await page.keyboard.press('Enter');
  await state(cards.nth(1), 'acquired');
  const next = await token(cards.nth(1));
  assert.ok(BigInt(next) > BigInt(held));
  await row(page, 'page-2').getByText('holds', { exact: true }).waitFor();
  await row(page, 'page-1').waitFor({ state: 'detached' });
  await tabTo(`Release lock ${next} by force`, 'Shift+Tab');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  assert.equal((await focused()).label, 'Keep it', 'the safe button has the focus');
  await tabTo('Release by force');
  await page.keyboard.press('Enter');
  await state(cards.nth(1), 'closed');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  await tabTo('Close');
  await page.keyboard.press('Enter');
  await state(cards.nth(0), 'closed');
});

test('the colors follow the color scheme', async (t) => {
  const lightness = async (colorScheme) => {
    const page = await open(t, { colorScheme });
    const [back, ink] = await page.evaluate(() => {
      const { backgroundColor, color } = getComputedStyle(document.body);
      return [backgroundColor, color].map((rgb) => rgb.match(/\d+/g).reduce((sum, part) => sum + Number(part), 0) / 3);
    });
    return { back, ink };
  };
  const [dark, light] = [await lightness('dark'), await lightness('light')];
  assert.ok(dark.back < 50 && dark.ink > 200, JSON.stringify(dark));
  assert.ok(light.back > 200 && light.ink < 50, JSON.stringify(light));
});

test('the page shows when the server becomes unreachable and reachable again', async (t) => {
  const page = await open(t, { expected: /Failed to load resource/ });
  const live = page.locator('#live');
  await live.getByText('live', { exact: true }).waitFor();
  await page.route('**/namespaces', (route) => route.abort());
  await live.getByText(/cannot reach the server since/).waitFor();
  await page.unroute('**/namespaces');
  await live.getByText('live', { exact: true }).waitFor();
});

test('a hidden page does not poll', async (t) => {
  const page = await open(t, { prepare: (page) => page.clock.install() });
  let polls = 0;
  page.on('request', (request) => { polls += request.url().includes('/namespaces'); });
  const show = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
  await page.locator('#live').getByText('live', { exact: true }).waitFor();
  await show(true);
  const before = polls;
  await page.clock.runFor(60_000);
  assert.equal(polls, before);
  const poll = page.waitForRequest((request) => request.url().includes('/namespaces'));
  await show(false);
  await poll;
});

test('the page asks for the auth token, keeps it for the tab, and never puts it in the address', async (t) => {
  const secret = 's3cr3t & more';
  const guard = (page) => page.route('**/namespaces', (route) =>
    route.request().headers().authorization === `Bearer ${secret}` ? route.continue() : route.fulfill({ status: 401, body: 'a token is needed\n' }));
  const page = await open(t, { prepare: guard, expected: /401/ });
  const field = page.getByLabel('Auth token');
  await page.getByRole('alert').getByText('a token is needed').waitFor();
  await field.fill('wrong');
  await field.press('Enter');
  await field.waitFor();
  await field.fill(secret);
  await field.press('Enter');
  await page.locator('#live').getByText('live', { exact: true }).waitFor();
  assert.ok(await field.isHidden());
  const socket = page.waitForEvent('websocket');
  await connection(page, 'auth', 'guest', 'a');
  assert.equal(new URL((await socket).url()).searchParams.get('token'), secret);
  await page.getByRole('heading', { name: 'Locks in auth' }).waitFor();
  await page.reload();
  await page.locator('#live').getByText('live', { exact: true }).waitFor();
  assert.ok(await field.isHidden(), 'a reload does not ask for it again');
  assert.ok(!page.url().includes('s3cr3t'));
});
