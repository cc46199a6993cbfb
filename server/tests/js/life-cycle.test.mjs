// The life cycle of the existing JavaScript client, unmodified, against a server of its own.
//
//   cargo build -p locktopus-server && cd server/tests/js && npm install --no-package-lock
//   SERVER=../../../target/debug/locktopus-server node --test

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { LocktopusClient, LOCK_TYPE } from '@locktopus/client';
import { WebSocket } from 'ws';

let server;
let host;
let port;
const connected = [];

before(async () => {
  server = spawn(process.env.SERVER, ['--host', '127.0.0.1', '--port', '0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await once(createInterface(server.stdout), 'line');
  [, host, port] = /^listening on (.*):(\d+)$/.exec(line);
});

after(async () => {
  connected.forEach((client) => client.close());
  const exit = once(server, 'exit');
  server.kill('SIGTERM');
  const [code] = await exit;
  assert.equal(code, 0);
});

async function connect(namespace, abandonTimeoutMs = 0) {
  const options = { host, port, namespace, secure: false, abandonTimeoutMs };
  const client = new LocktopusClient(WebSocket, options);
  await client.connect();
  connected.push(client);
  return client;
}

const write = (...path) => ({ type: LOCK_TYPE.WRITE, path });
const read = (...path) => ({ type: LOCK_TYPE.READ, path });

test('a client connects by URL', async () => {
  const client = new LocktopusClient(WebSocket, `ws://${host}:${port}/v1?namespace=url`);
  await client.connect();
  assert.equal(client.getState(), 'ready');
  client.close();
});

test('a client can lock again after a release', async () => {
  const client = await connect('again');
  for (let round = 0; round < 3; round++) {
    assert.equal(await client.lock(write('a', 'b'), read('c')), true);
    assert.equal(client.isAcquired(), true);
    assert.equal(await client.acquire(), true);
    await client.release();
    assert.equal(client.isAcquired(), false);
  }
});

test('an enqueued client acquires the lock when the first one releases it', async () => {
  const first = await connect('queue');
  const second = await connect('queue');
  assert.equal(await first.lock(write('a')), true);
  assert.equal(await second.lock(read('a', 'b')), false);
  assert.equal(second.getState(), 'enqueued');
  const acquired = second.acquire();
  await first.release();
  assert.equal(await acquired, true);
  assert.ok(BigInt(second.getLockId()) > BigInt(first.getLockId()));
  await second.release();
});

test('a release while enqueued withdraws the request', async () => {
  const holder = await connect('withdraw');
  const writer = await connect('withdraw');
  const reader = await connect('withdraw');
  assert.equal(await holder.lock(read('a')), true);
  assert.equal(await writer.lock(write('a')), false);
  assert.equal(await reader.lock(read('a')), false);
  const given = writer.acquire();
  await writer.release();
  assert.equal(await given, false, 'acquire() reports the withdrawal');
  assert.equal(await reader.acquire(), true, 'the reader is granted');
  assert.equal(await writer.lock(write('b')), true, 'the connection still works');
});

test('a release at the moment of the grant releases the lock', async () => {
  const [first, second] = [await connect('moment'), await connect('moment')];
  for (let round = 0; round < 100; round++) {
    assert.equal(await first.lock(write('a')), true);
    assert.equal(await second.lock(write('a')), false);
    await Promise.all([first.release(), second.release()]);
  }
});

test('the next lock is acquired after the abandon timeout', async () => {
  const holder = await connect('abandon', 150);
  const waiter = await connect('abandon');
  assert.equal(await holder.lock(write('a')), true);
  assert.equal(await waiter.lock(write('a')), false);
  const start = performance.now();
  holder.close();
  assert.equal(await waiter.acquire(), true);
  assert.ok(performance.now() - start >= 145);
});

test('an enqueued client that closes delays no other client', async () => {
  const holder = await connect('leave');
  const writer = await connect('leave', 3_600_000);
  const reader = await connect('leave');
  await holder.lock(read('a'));
  assert.equal(await writer.lock(write('a')), false);
  assert.equal(await reader.lock(read('a')), false);
  writer.close();
  assert.equal(await reader.acquire(), true);
});

test('after a bad request the promise rejects and the connection closes, with the same error', async () => {
  const client = await connect('bad');
  const closed = new Promise((resolve) => client.onConnectionClose(resolve));
  const messages = [];
  client.onMessage(({ direction, data }) => direction === 'in' && messages.push(data));
  await assert.rejects(client.lock({ type: 'wrong', path: ['a'] }), /action/);
  const { code } = await closed;
  assert.equal(code, 3000);
  assert.equal(messages.length, 1);
  assert.match(JSON.parse(messages[0]).error, /"wrong".*read and write/);
});
