import assert from 'node:assert/strict';

import { MessageAttemptTriggerType, MessageStatus, StatusCodeClass } from 'svix';

import { application, nobody, pagesBothWays, pause, Receiver, refused, svix, until, verifies } from './support.mjs';

const { messageAttempt: attempts } = svix;

// An application whose messages one endpoint takes, one refuses for now, one refuses for good, and one cannot be reached.
async function scene() {
  const app = await application();
  const receivers = { takes: await Receiver.start(200), fails: await Receiver.start(503), refuses: await Receiver.start(422) };
  receivers.takes.answer = '{"thank":"you"}';
  const unreachable = await Receiver.start();
  unreachable.stop();
  const endpoints = {};
  for (const [name, { url }] of Object.entries({ ...receivers, unreachable })) {
    endpoints[name] = (await svix.endpoint.create(app.id, { url, uid: name, channels: ['all', name] })).id;
  }
  const message = await svix.message.create(app.id, { eventType: 'call.ended', payload: { n: 1 }, channels: ['all'] });
  const tried = async () => new Set((await attempts.listByMsg(app.id, message.id)).data.map((attempt) => attempt.endpointId));
  await until('all were tried', async () => (await tried()).size === 4);
  const stop = () => Object.values(receivers).forEach((receiver) => receiver.stop());
  return { app, receivers, endpoints, message, stop };
}

export default {
  async 'attempts: list by message and by endpoint, get, expunge'() {
    const { app, receivers, endpoints, message, stop } = await scene();
    const byMessage = (options) => attempts.listByMsg(app.id, message.id, options);
    const endpointsOf = (page) => new Set(page.data.map((attempt) => attempt.endpointId));
    const of = (...names) => new Set(names.map((name) => endpoints[name]));
    const all = await byMessage();
    assert.deepEqual(endpointsOf(all), of('takes', 'fails', 'refuses', 'unreachable'));
    assert.ok(all.data.every((attempt) => attempt.msgId === message.id && attempt.id.startsWith('atmpt_')));
    assert.deepEqual(endpointsOf(await byMessage({ status: MessageStatus.Success })), of('takes'));
    assert.deepEqual(endpointsOf(await byMessage({ status: MessageStatus.Fail })), of('fails', 'refuses', 'unreachable'));
    assert.deepEqual(endpointsOf(await byMessage({ statusCodeClass: StatusCodeClass.Code2xx })), of('takes'));
    assert.deepEqual(endpointsOf(await byMessage({ statusCodeClass: StatusCodeClass.Code4xx })), of('refuses'));
    assert.deepEqual(endpointsOf(await byMessage({ statusCodeClass: StatusCodeClass.Code5xx })), of('fails'));
    assert.deepEqual(endpointsOf(await byMessage({ statusCodeClass: StatusCodeClass.CodeNone })), of('unreachable'));
    assert.deepEqual(endpointsOf(await byMessage({ endpointId: 'refuses' })), of('refuses'));
    assert.deepEqual(endpointsOf(await byMessage({ channel: 'all', eventTypes: ['call.ended'] })), endpointsOf(all));
    assert.deepEqual((await byMessage({ eventTypes: ['other.event'] })).data, []);
    assert.deepEqual((await byMessage({ channel: 'none' })).data, []);
    assert.deepEqual((await byMessage({ before: message.timestamp })).data, []);
    assert.ok((await byMessage({ after: message.timestamp })).data.length >= 4);

    const [attempt] = (await attempts.listByEndpoint(app.uid, 'takes', { withContent: true, withMsg: true })).data;
    assert.deepEqual([attempt.status, attempt.statusText, attempt.responseStatusCode], [MessageStatus.Success, 'success', 200]);
    assert.deepEqual([attempt.response, attempt.url], ['{"thank":"you"}', receivers.takes.url]);
    assert.equal(attempt.triggerType, MessageAttemptTriggerType.Scheduled);
    assert.ok(attempt.timestamp instanceof Date && attempt.responseDurationMs >= 0);
    assert.deepEqual([attempt.msg.id, attempt.msg.payload], [message.id, { n: 1 }]);
    const got = await attempts.get(app.id, message.id, attempt.id);
    assert.deepEqual(got, { ...attempt, msg: undefined });
    assert.deepEqual(await attempts.get(app.id, message.id, attempt.id, { expandedStatuses: false }), got);
    assert.equal((await attempts.listByEndpoint(app.id, 'takes')).data[0].response, '');

    assert.equal(await attempts.expungeContent(app.id, message.id, attempt.id), undefined);
    assert.equal((await attempts.get(app.id, message.id, attempt.id)).response, '');
    await refused(404, attempts.get(app.id, message.id, nobody('atmpt')));
    await refused(404, attempts.listByMsg(app.id, nobody('msg')));
    await refused(404, attempts.listByEndpoint(app.id, nobody('ep')));
    stop();
  },

  async 'attempts: filtered lists of an endpoint, in pages'() {
    const app = await application();
    const receiver = await Receiver.start();
    const { id } = await svix.endpoint.create(app.id, { url: receiver.url });
    const sent = [];
    for (let number = 0; number < 5; number += 1) {
      const eventType = number === 4 ? 'other.event' : 'call.ended';
      const message = await svix.message.create(app.id, { eventType, payload: {}, channels: [`ch${number % 2}`] });
      await until('it is in the log', async () => (await attempts.listByMsg(app.id, message.id)).data.length === 1);
      sent.push(message.id);
      await pause(5);
    }
    const messages = (page) => page.data.map((attempt) => attempt.msgId);
    const list = (options) => attempts.listByEndpoint(app.id, id, options);
    assert.deepEqual(messages(await list()), sent.toReversed());
    assert.deepEqual(messages(await list({ channel: 'ch1' })), [sent[3], sent[1]]);
    assert.deepEqual(messages(await list({ eventTypes: ['other.event'] })), [sent[4]]);
    assert.deepEqual(messages(await list({ status: MessageStatus.Success, channel: 'ch0' })), [sent[4], sent[2], sent[0]]);
    assert.deepEqual(messages(await list({ statusCodeClass: StatusCodeClass.Code5xx })), []);
    const third = (await attempts.listByMsg(app.id, sent[2])).data[0].timestamp;
    assert.deepEqual(messages(await list({ before: third })), [sent[1], sent[0]]);
    assert.deepEqual(messages(await list({ after: third })), [sent[4], sent[3], sent[2]]);
    const { there, back } = await pagesBothWays((options) => list({ limit: 2, ...options }));
    assert.deepEqual(there.flatMap(messages), sent.toReversed());
    assert.deepEqual(back.flatMap(messages), sent.toReversed().slice(0, 4));
    receiver.stop();
  },

  async 'attempts: attempted destinations and attempted messages'() {
    const { app, endpoints, message, stop } = await scene();
    const standing = { takes: MessageStatus.Success, fails: MessageStatus.Pending, refuses: MessageStatus.Fail, unreachable: MessageStatus.Pending };
    const destinations = (options) => attempts.listAttemptedDestinations(app.id, message.id, options);
    const found = (await destinations()).data;
    assert.deepEqual(Object.fromEntries(found.map((destination) => [destination.uid, destination.status])), standing);
    const pending = found.find((destination) => destination.uid === 'fails');
    assert.deepEqual([pending.id, pending.statusText], [endpoints.fails, 'pending']);
    assert.ok(pending.nextAttempt > message.timestamp);
    assert.ok(!found.find((destination) => destination.uid === 'takes').nextAttempt);
    const { there } = await pagesBothWays((options) => destinations({ limit: 3, ...options }));
    assert.deepEqual(there.map((page) => page.data.length), [3, 1]);

    const more = [];
    for (let number = 0; number < 3; number += 1) {
      const given = { eventType: 'other.event', payload: { number }, channels: ['takes'], eventId: `more-${number}` };
      more.push((await svix.message.create(app.id, given)).id);
      await pause(5);
    }
    const messages = (options) => attempts.listAttemptedMessages(app.id, 'takes', options);
    await until('all are delivered', async () => (await messages({ status: MessageStatus.Success })).data.length === 4);
    const ids = (page) => page.data.map((item) => item.id);
    const newestFirst = [...more.toReversed(), message.id];
    const page = await messages({ withContent: true });
    assert.deepEqual([ids(page), page.done], [newestFirst, true]);
    assert.deepEqual([page.data[0].payload, page.data[0].eventId, page.data[0].statusText], [{ number: 2 }, 'more-2', 'success']);
    assert.deepEqual((await messages()).data[0].payload, {});
    assert.deepEqual(ids(await messages({ eventTypes: ['call.ended'] })), [message.id]);
    assert.deepEqual(ids(await messages({ channel: 'takes' })), more.toReversed());
    assert.deepEqual(ids(await messages({ status: MessageStatus.Fail })), []);
    const walked = await pagesBothWays((options) => messages({ limit: 3, ...options }));
    assert.deepEqual(walked.there.flatMap(ids), newestFirst);
    assert.deepEqual(walked.back.flatMap(ids), newestFirst.slice(0, 3));
    const [dead] = (await attempts.listAttemptedMessages(app.id, 'refuses')).data;
    assert.deepEqual([dead.id, dead.status], [message.id, MessageStatus.Fail]);
    stop();
  },

  async 'attempts: canceled deliveries'() {
    const { app, message, stop } = await scene();
    // What waits of an expunged message is canceled.
    await svix.message.expungeContent(app.id, message.id);
    const status = async (options) => (await attempts.listAttemptedMessages(app.id, 'fails', options)).data[0].status;
    await until('it is canceled', async () => (await status()) === MessageStatus.Canceled);
    assert.equal(await status({ status: MessageStatus.Canceled }), MessageStatus.Canceled);
    // Clients of before know no such status.
    assert.equal(await status({ expandedStatuses: false }), MessageStatus.Fail);
    const destinations = (await attempts.listAttemptedDestinations(app.id, message.id)).data;
    assert.equal(destinations.find((destination) => destination.uid === 'fails').statusText, 'canceled');
    stop();
  },

  async 'attempts: resend'() {
    const { app, receivers, endpoints, message, stop } = await scene();
    const { key } = await svix.endpoint.getSecret(app.id, endpoints.refuses);
    receivers.refuses.status = 200;
    await attempts.resend(app.id, message.id, 'refuses');
    const [first, second] = await receivers.refuses.of(message.id, 2);
    verifies(key, first);
    verifies(key, second);
    assert.deepEqual(second.body, first.body);
    const listed = () => attempts.listByMsg(app.id, message.id, { endpointId: endpoints.refuses });
    await until('it is in the log', async () => (await listed()).data.length === 2);
    const [newest] = (await listed()).data;
    assert.deepEqual([newest.status, newest.triggerType], [MessageStatus.Success, MessageAttemptTriggerType.Manual]);
    // What was delivered may be sent once more.
    const { key: other } = await svix.endpoint.getSecret(app.id, 'takes');
    await attempts.resend(app.id, message.id, endpoints.takes);
    verifies(other, (await receivers.takes.of(message.id, 2))[1]);
    await refused(404, attempts.resend(app.id, message.id, nobody('ep')));
    await refused(404, attempts.resend(app.id, nobody('msg'), endpoints.takes));
    stop();
  },
};
