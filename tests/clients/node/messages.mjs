import assert from 'node:assert/strict';

import { messageInRaw } from 'svix';

import { application, fresh, invalid, nobody, pagesBothWays, pause, Receiver, refused, svix, verifies } from './support.mjs';

const { message: messages } = svix;

export default {
  async 'messages: create, get, expunge'() {
    const app = await application();
    const eventId = fresh('event');
    const payload = { call: { id: 'c1', ü: '€ 5' }, n: 1 };
    const given = { eventType: 'call.ended', payload, eventId, channels: ['agent:a', 'agent:b'] };
    const made = await messages.create(app.uid, given, { withContent: true });
    assert.match(made.id, /^msg_/);
    assert.deepEqual([made.eventType, made.eventId, made.payload], ['call.ended', eventId, payload]);
    assert.deepEqual(made.channels.toSorted(), given.channels);
    assert.ok(made.timestamp instanceof Date);
    await refused(409, messages.create(app.id, given));
    assert.deepEqual(await messages.get(app.id, made.id, { withContent: true }), made);
    assert.deepEqual(await messages.get(app.uid, eventId, { withContent: true }), made);
    assert.deepEqual((await messages.get(app.id, eventId)).payload, {});

    const without = await messages.create(app.id, { eventType: 'call.ended', payload }, { withContent: false });
    assert.deepEqual(without.payload, {});
    assert.equal(without.eventId ?? null, null);
    assert.deepEqual((await messages.get(app.id, without.id, { withContent: true })).payload, payload);

    assert.equal(await messages.expungeContent(app.id, made.id), undefined);
    const expunged = await messages.get(app.id, made.id, { withContent: true });
    assert.ok(!JSON.stringify(expunged.payload).includes('c1'));
    assert.equal(expunged.eventType, 'call.ended');
    await refused(404, messages.get(app.id, nobody('msg')));
    await refused(404, messages.get(app.id, 'no-such-event'));
    await refused(404, messages.expungeContent(app.id, nobody('msg')));
  },

  async 'messages: create, with an application to be made'() {
    const uid = fresh('made');
    const message = { eventType: 'call.ended', payload: {}, application: { name: 'Made', uid } };
    const first = await messages.create(uid, message);
    const second = await messages.create(uid, message);
    assert.notEqual(first.id, second.id);
    assert.equal((await svix.application.get(uid)).name, 'Made');
    assert.equal((await messages.list(uid)).data.length, 2);
    await refused(404, messages.create(fresh('none'), { eventType: 'call.ended', payload: {} }));
    await invalid(['body', 'application', 'uid'], messages.create(fresh('other'), message));
  },

  async 'messages: create, from a text that is sent as it is'() {
    const app = await application();
    const receiver = await Receiver.start();
    const endpoint = await svix.endpoint.create(app.id, { url: receiver.url });
    const { key } = await svix.endpoint.getSecret(app.id, endpoint.id);
    const text = '{ "b": 1.50,\n  "a": "\\u00fc" }';
    const made = await messages.create(app.id, messageInRaw('call.ended', text), { withContent: true });
    assert.deepEqual(made.payload, { b: 1.5, a: 'ü' });
    const [request] = await receiver.of(made.id);
    assert.equal(request.body.toString(), text);
    verifies(key, request);
    // What is no JSON object is still handed over as one, since clients read one.
    for (const other of ['just a text', '[1, 2]']) {
      const { id, payload } = await messages.create(app.id, messageInRaw('call.ended', other), { withContent: true });
      assert.deepEqual(payload, { rawPayload: other });
      assert.deepEqual((await messages.get(app.id, id, { withContent: true })).payload, payload);
      const [arrived] = await receiver.of(id);
      assert.equal(arrived.body.toString(), other);
      verifies(key, arrived);
    }
    const typed = messages.create(app.id, messageInRaw('call.ended', 'a=b', 'application/x-www-form-urlencoded'));
    await invalid(['body', 'transformationsParams', 'headers'], typed);
    receiver.stop();
  },

  async 'messages: lists, filtered and in pages'() {
    const app = await application();
    const sent = [];
    const types = ['call.started', 'call.ended', 'call.started', 'call.failed', 'call.ended'];
    for (const [number, eventType] of types.entries()) {
      const channels = number % 2 === 0 ? ['even'] : ['odd', 'seldom'];
      sent.push(await messages.create(app.id, { eventType, payload: { number }, channels }, { withContent: true }));
      await pause(5);
    }
    const newestFirst = sent.toReversed();
    const ids = (page) => page.data.map((message) => message.id);
    const expect = async (options, numbers) => {
      assert.deepEqual(ids(await messages.list(app.id, options)), numbers.map((number) => sent[number].id), JSON.stringify(options));
    };
    const all = await messages.list(app.id, { withContent: true });
    assert.deepEqual([all.data, all.done], [newestFirst, true]);
    assert.deepEqual((await messages.list(app.id)).data.map((message) => message.payload), [{}, {}, {}, {}, {}]);
    await expect({ channel: 'even' }, [4, 2, 0]);
    await expect({ channel: 'seldom' }, [3, 1]);
    await expect({ eventTypes: ['call.ended'] }, [4, 1]);
    await expect({ eventTypes: ['call.ended', 'call.failed'] }, [4, 3, 1]);
    await expect({ eventTypes: ['call.ended'], channel: 'even' }, [4]);
    await expect({ before: sent[2].timestamp }, [1, 0]);
    await expect({ after: sent[3].timestamp }, [4, 3]);
    const { there, back } = await pagesBothWays((options) => messages.list(app.id, { limit: 2, ...options }));
    assert.deepEqual(there.map(ids), [ids({ data: newestFirst.slice(0, 2) }), ids({ data: newestFirst.slice(2, 4) }), [sent[0].id]]);
    assert.deepEqual(back.map(ids), there.slice(0, 2).map(ids));
  },
};
