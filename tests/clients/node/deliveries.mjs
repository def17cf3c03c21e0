import assert from 'node:assert/strict';

import { application, Receiver, svix, verifies } from './support.mjs';

export default {
  async 'deliveries: verified by the receiver, routed by type and channel'() {
    const app = await application();
    const [all, calls, even] = [await Receiver.start(), await Receiver.start(), await Receiver.start()];
    const open = async (receiver, settings) => {
      const { id } = await svix.endpoint.create(app.id, { url: receiver.url, ...settings });
      return (await svix.endpoint.getSecret(app.id, id)).key;
    };
    const keys = [await open(all), await open(calls, { eventTypes: ['call.ended'] }), await open(even, { channels: ['even'] })];
    const send = (eventType, channels) => svix.message.create(app.id, { eventType, channels, payload: { text: 'naïve – “quoted”' } });
    const call = await send('call.ended');
    const other = await send('other.event', ['even']);
    verifies(keys[0], (await all.of(call.id))[0]);
    verifies(keys[0], (await all.of(other.id))[0]);
    verifies(keys[1], (await calls.of(call.id))[0]);
    verifies(keys[2], (await even.of(other.id))[0]);
    const [{ headers, body }] = await all.of(call.id);
    assert.equal(headers['content-type'], 'application/json');
    assert.deepEqual(JSON.parse(body), { text: 'naïve – “quoted”' });
    assert.deepEqual([all, calls, even].map((receiver) => receiver.requests.length), [2, 1, 1]);
    for (const receiver of [all, calls, even]) receiver.stop();
  },
};
