// What the groups share: clients, a receiver that verifies with the official package, and refusals.
import assert from 'node:assert/strict';
import http from 'node:http';

import { ApiException, Svix, Webhook, WebhookVerificationError } from 'svix';

const serverUrl = process.env.RINGBACK_URL;
const PATIENCE_MS = 60_000;

export const svix = new Svix(process.env.RINGBACK_TOKEN, { serverUrl });
export const withToken = (token) => new Svix(token, { serverUrl });

let made = 0;
// A name that nobody has used before.
export const fresh = (word) => `${word}-${process.pid}-${made++}`;
// An application of its own.
export const application = () => svix.application.create({ name: 'Acme', uid: fresh('acme') });
// An id in the server's form that nothing has.
export const nobody = (prefix) => `${prefix}_${'0'.repeat(26)}`;

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Waits until `look` gives something.
export async function until(what, look) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < deadline, `waited in vain until ${what}`);
    await pause(20);
  }
}

// The call must be refused with this status, and the body be the API's own JSON.
export async function refused(status, call) {
  const error = await call.then(
    (answer) => assert.fail(`answered with ${JSON.stringify(answer)} instead of ${status}`),
    (error) => error,
  );
  assert.ok(error instanceof ApiException, error.stack);
  assert.equal(error.code, status, JSON.stringify(error.body));
  // The client hands over the text of answers from 500 on.
  const body = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
  if (status !== 422) {
    assert.equal(typeof body.code, 'string', JSON.stringify(body));
    assert.equal(typeof body.detail, 'string', JSON.stringify(body));
    assert.ok(body.code && body.detail, JSON.stringify(body));
  }
  return body;
}

// The call must be refused with 422, and the answer name this field.
export async function invalid(loc, call) {
  const { detail } = await refused(422, call);
  assert.deepEqual(detail.map((item) => item.loc), [loc]);
  assert.equal(detail[0].type, 'value_error');
  assert.ok(detail[0].msg);
}

// All pages of a list, the iterator handed on, and all pages on the way back.
export async function pagesBothWays(list) {
  const there = [];
  let page = await list({});
  for (;;) {
    there.push(page);
    if (page.done) break;
    page = await list({ iterator: page.iterator });
  }
  const back = [];
  while (page.data.length > 0) {
    page = await list({ iterator: page.prevIterator });
    if (page.data.length > 0) back.unshift(page);
  }
  return { there, back };
}

// A receiver on loopback: it keeps what arrives and answers what it was told last.
export class Receiver {
  status = 200;
  answer = '';
  requests = [];

  static async start(status = 200) {
    const receiver = new Receiver();
    receiver.status = status;
    receiver.server = http.createServer((request, response) => {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => {
        receiver.requests.push({ headers: request.headers, body: Buffer.concat(chunks) });
        // What it refuses, it never wants again.
        const asked = receiver.status === 422 ? { 'webhook-delivery': 'abort-message' } : {};
        response.writeHead(receiver.status, asked).end(receiver.answer);
      });
    });
    await new Promise((resolve) => receiver.server.listen(0, '127.0.0.1', resolve));
    receiver.url = `http://127.0.0.1:${receiver.server.address().port}/hook`;
    return receiver;
  }

  // The request with this number, counted from 0, once it has come.
  async request(number) {
    await until(`request ${number} came`, () => this.requests.length > number);
    return this.requests[number];
  }

  // The attempts of this message, once there are as many.
  async of(id, count = 1) {
    const own = () => this.requests.filter((request) => request.headers['svix-id'] === id);
    await until(`${count} of ${id} came`, () => own().length >= count);
    return own();
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}

// The official package must accept the request, and refuse it with another body, id or time.
export function verifies(secret, { headers, body }) {
  const webhook = new Webhook(secret);
  webhook.verify(body.toString(), headers);
  const tampered = [
    [` ${body}`, headers],
    [`${body} `, headers],
    [body.toString(), { ...headers, 'svix-id': 'msg_other' }],
    [body.toString(), { ...headers, 'svix-timestamp': String(Number(headers['svix-timestamp']) + 1) }],
    [body.toString(), { ...headers, 'svix-signature': '' }],
  ];
  for (const [otherBody, otherHeaders] of tampered) {
    assert.throws(() => webhook.verify(otherBody, otherHeaders), WebhookVerificationError);
  }
}

export function doesNotVerify(secret, { headers, body }) {
  assert.throws(() => new Webhook(secret).verify(body.toString(), headers), WebhookVerificationError);
}
