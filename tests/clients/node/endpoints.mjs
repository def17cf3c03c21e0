import assert from 'node:assert/strict';

import { BackgroundTaskStatus, BackgroundTaskType, MessageStatus, Ordering } from 'svix';

import {
  application, doesNotVerify, fresh, nobody, pagesBothWays, Receiver, refused, svix, until, verifies,
} from './support.mjs';

const { endpoint: endpoints } = svix;
const HOOK = 'https://hooks.acme.example/in';

export default {
  async 'endpoints: create, list, get, upsert, patch, delete'() {
    const app = await application();
    const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
    const given = {
      url: HOOK, uid: fresh('ep'), description: 'theirs', eventTypes: ['call.ended', 'call.started'],
      channels: ['ch0', 'ch1'], metadata: { team: 'a' }, throttleRate: 20, disabled: true,
    };
    const made = await endpoints.create(app.id, { ...given, secret, headers: { 'X-Team': 'a' } });
    assert.match(made.id, /^ep_/);
    const { id, createdAt, updatedAt, ...rest } = made;
    assert.deepEqual({ ...rest, channels: rest.channels.toSorted(), eventTypes: rest.eventTypes.toSorted() }, given);
    assert.ok(createdAt instanceof Date && updatedAt >= createdAt);
    assert.equal((await endpoints.getSecret(app.id, id)).key, secret);
    assert.deepEqual(await endpoints.get(app.id, id), made);
    assert.deepEqual(await endpoints.get(app.uid, given.uid), made);
    await refused(409, endpoints.create(app.id, { url: HOOK, uid: given.uid }));

    const bare = await endpoints.create(app.uid, { url: HOOK });
    assert.deepEqual([bare.disabled, bare.description, bare.metadata], [false, '', {}]);
    assert.deepEqual([bare.uid, bare.eventTypes, bare.channels, bare.throttleRate].map((value) => value ?? null), [null, null, null, null]);
    assert.match((await endpoints.getSecret(app.id, bare.id)).key, /^whsec_/);

    const patched = await endpoints.patch(app.id, id, { description: 'ours', disabled: false, metadata: { b: '2' } });
    assert.deepEqual([patched.description, patched.disabled, patched.metadata], ['ours', false, { b: '2' }]);
    assert.deepEqual([patched.url, patched.uid, patched.throttleRate], [HOOK, given.uid, 20]);
    assert.deepEqual([patched.channels.toSorted(), patched.eventTypes.toSorted()], [given.channels, given.eventTypes]);
    const reset = await endpoints.patch(app.id, id, { channels: null, eventTypes: null, throttleRate: null });
    assert.deepEqual([reset.channels, reset.eventTypes, reset.throttleRate].map((value) => value ?? null), [null, null, null]);
    assert.equal(reset.description, 'ours');

    const url = `${HOOK}/2`;
    const replaced = await endpoints.upsert(app.id, given.uid, { url, uid: given.uid, eventTypes: ['call.ended'] });
    assert.deepEqual([replaced.id, replaced.url, replaced.eventTypes], [id, url, ['call.ended']]);
    assert.deepEqual([replaced.description, replaced.metadata], ['', {}]);
    assert.equal((await endpoints.getSecret(app.id, id)).key, secret);
    const uid = fresh('ep');
    const upserted = await endpoints.upsert(app.id, uid, { url });
    assert.equal(upserted.uid, uid);
    assert.deepEqual(await endpoints.get(app.id, uid), upserted);

    const listed = await endpoints.list(app.id);
    assert.deepEqual(listed.data, [replaced, bare, upserted]);
    assert.equal(listed.done, true);

    assert.equal(await endpoints.delete(app.id, given.uid), undefined);
    await refused(404, endpoints.get(app.id, id));
    await refused(404, endpoints.getSecret(app.id, id));
    await refused(404, endpoints.delete(app.id, nobody('ep')));
  },

  async 'endpoints: pages, both ways and in both orders'() {
    const app = await application();
    const made = [];
    for (let number = 0; number < 5; number += 1) made.push((await endpoints.create(app.id, { url: HOOK })).id);
    const ids = (pages) => pages.flatMap((page) => page.data.map((endpoint) => endpoint.id));
    for (const order of [Ordering.Ascending, Ordering.Descending]) {
      const { there, back } = await pagesBothWays((options) => endpoints.list(app.id, { limit: 2, order, ...options }));
      assert.deepEqual(ids(there), order === Ordering.Ascending ? made : made.toReversed());
      assert.deepEqual(ids(back), ids(there).slice(0, 4));
    }
  },

  async 'endpoints: headers that requests carry'() {
    const app = await application();
    const receiver = await Receiver.start();
    const { id } = await endpoints.create(app.id, { url: receiver.url, headers: { 'X-One': '1', 'X-Two': '2' } });
    const names = async () => {
      const { headers, sensitive } = await endpoints.getHeaders(app.id, id);
      return [...Object.keys(headers), ...sensitive].map((name) => name.toLowerCase()).toSorted();
    };
    const arrive = async () => {
      const { id: message } = await svix.message.create(app.id, { eventType: 'call.ended', payload: {} });
      const [{ headers }] = await receiver.of(message);
      return ['x-one', 'x-two', 'x-three'].map((name) => headers[name]);
    };
    assert.deepEqual(await names(), ['x-one', 'x-two']);
    assert.deepEqual(await arrive(), ['1', '2', undefined]);
    await endpoints.setHeaders(app.id, id, { headers: { 'X-Two': '22', 'X-Three': '3' } });
    assert.deepEqual(await names(), ['x-three', 'x-two']);
    assert.deepEqual(await arrive(), [undefined, '22', '3']);
    await endpoints.patchHeaders(app.id, id, { headers: { 'X-One': '11' }, deleteHeaders: ['X-Three'] });
    assert.deepEqual(await names(), ['x-one', 'x-two']);
    assert.deepEqual(await arrive(), ['11', '22', undefined]);
    await endpoints.patch(app.id, id, { description: 'the headers stay' });
    await endpoints.upsert(app.id, id, { url: receiver.url });
    assert.deepEqual(await arrive(), ['11', '22', undefined]);
    await endpoints.setHeaders(app.id, id, { headers: {} });
    assert.deepEqual(await arrive(), [undefined, undefined, undefined]);
    receiver.stop();
  },

  async 'endpoints: rotated secrets, old and new both verified in the overlap'() {
    const app = await application();
    const receiver = await Receiver.start();
    const { id } = await endpoints.create(app.id, { url: receiver.url });
    const send = async () => {
      const { id: message } = await svix.message.create(app.id, { eventType: 'call.ended', payload: { n: 1 } });
      return (await receiver.of(message))[0];
    };
    const first = (await endpoints.getSecret(app.id, id)).key;
    verifies(first, await send());

    await endpoints.rotateSecret(app.id, id);
    const second = (await endpoints.getSecret(app.id, id)).key;
    assert.notEqual(second, first);
    const inOverlap = await send();
    verifies(first, inOverlap);
    verifies(second, inOverlap);

    const third = `whsec_${Buffer.alloc(24, 9).toString('base64')}`;
    await endpoints.rotateSecret(app.id, id, { key: third, gracePeriodSeconds: 0 });
    assert.equal((await endpoints.getSecret(app.id, id)).key, third);
    const after = await send();
    verifies(third, after);
    doesNotVerify(second, after);
    receiver.stop();
  },

  async 'endpoints: send example'() {
    const app = await application();
    const receiver = await Receiver.start();
    const { id } = await endpoints.create(app.id, { url: receiver.url });
    const { key } = await endpoints.getSecret(app.id, id);
    const sent = await endpoints.sendExample(app.id, id, { eventType: 'svix.ping' });
    assert.equal(sent.eventType, 'svix.ping');
    verifies(key, (await receiver.of(sent.id))[0]);

    const name = fresh('invoice').replaceAll('-', '_');
    const schemas = { 1: { type: 'object', properties: { total: { type: 'integer' } }, examples: [{ total: 7 }] } };
    await svix.eventType.create({ name, description: 'an invoice', schemas });
    const example = await endpoints.sendExample(app.id, id, { eventType: name });
    assert.equal(example.eventType, name);
    assert.deepEqual(example.payload, { total: 7 });
    const [request] = await receiver.of(example.id);
    verifies(key, request);
    assert.deepEqual(JSON.parse(request.body), { total: 7 });
    receiver.stop();
  },

  async 'endpoints: statistics, and recovery as a background task'() {
    const app = await application();
    const receiver = await Receiver.start(422);
    const since = new Date(Date.now() - 3600_000);
    const { id } = await endpoints.create(app.id, { url: receiver.url });
    const { key } = await endpoints.getSecret(app.id, id);
    const stats = (options) => endpoints.getStats(app.id, id, options);
    assert.deepEqual(await stats(), { success: 0, pending: 0, sending: 0, fail: 0, canceled: 0 });
    const { id: message } = await svix.message.create(app.id, { eventType: 'call.ended', payload: {} });
    await until('it is dead', async () => (await stats()).fail === 1);
    assert.equal((await stats({ since, until: new Date(Date.now() + 60_000) })).fail, 1);
    assert.equal((await stats({ until: since })).fail, 0);

    receiver.status = 200;
    const begun = await endpoints.recover(app.id, id, { since, until: new Date(Date.now() + 60_000) });
    assert.equal(begun.task, BackgroundTaskType.EndpointRecover);
    assert.ok(Object.values(BackgroundTaskStatus).includes(begun.status));
    assert.ok(begun.updatedAt instanceof Date);
    verifies(key, (await receiver.of(message, 2))[1]);
    await until('it is delivered', async () => (await stats()).success === 1);

    const { backgroundTask: tasks } = svix;
    const finished = await until('the task is finished', async () => {
      const task = await tasks.get(begun.id);
      return task.status === BackgroundTaskStatus.Finished && task;
    });
    assert.deepEqual([finished.id, finished.task], [begun.id, BackgroundTaskType.EndpointRecover]);
    assert.equal(typeof finished.data, 'object');
    const listed = async (options) => (await tasks.list({ limit: 250, ...options })).data.map((task) => task.id);
    assert.ok((await listed()).includes(begun.id));
    const ofThisKind = { status: BackgroundTaskStatus.Finished, task: BackgroundTaskType.EndpointRecover };
    assert.ok((await listed({ ...ofThisKind, order: Ordering.Descending })).includes(begun.id));
    assert.ok(!(await listed({ status: BackgroundTaskStatus.Running })).includes(begun.id));
    assert.deepEqual(await listed({ task: BackgroundTaskType.SdkGenerate }), []);
    await refused(404, tasks.get('qtask_none'));

    const late = await Receiver.start();
    const { id: lateId } = await endpoints.create(app.id, { url: late.url });
    const missing = await endpoints.replayMissing(app.id, lateId, { since });
    assert.equal(missing.task, BackgroundTaskType.EndpointReplay);
    await late.of(message);
    const bulk = await endpoints.bulkReplay(app.id, lateId, {
      since, eventTypes: ['call.ended'], status: MessageStatus.Success,
    });
    assert.equal(bulk.task, BackgroundTaskType.EndpointBulkReplay);
    assert.ok(bulk.updatedAt instanceof Date && Object.values(BackgroundTaskStatus).includes(bulk.status));
    await late.of(message, 2);
    for (const { id: task } of [missing, bulk]) {
      await until('it is finished', async () => (await tasks.get(task)).status === BackgroundTaskStatus.Finished);
    }
    assert.ok((await listed({ task: BackgroundTaskType.EndpointReplay })).includes(missing.id));
    late.stop();

    const [destination] = (await svix.messageAttempt.listAttemptedDestinations(app.id, message)).data;
    assert.equal(destination.status, MessageStatus.Success);
    receiver.stop();
  },
};
