import assert from 'node:assert/strict';

import { application, fresh, invalid, nobody, refused, svix, withToken } from './support.mjs';

const HOOK = 'https://hooks.acme.example/in';

export default {
  async 'errors: 401, 404, 409, 413'() {
    const app = await application();
    for (const token of ['wrong', 'testsk_wrong.eu', nobody('sk')]) {
      const { code } = await refused(401, withToken(token).application.list());
      assert.equal(code, 'authentication_failed');
      await refused(401, withToken(token).message.create(app.id, { eventType: 'a', payload: {} }));
    }
    assert.equal((await refused(404, svix.application.get(nobody('app')))).code, 'not_found');
    assert.equal((await refused(404, svix.endpoint.get(app.id, 'none'))).code, 'not_found');
    assert.equal((await refused(409, svix.application.create({ name: 'x', uid: app.uid }))).code, 'conflict');
    // A little more than is allowed, and so much more that the server answers before it has read it all.
    for (const length of [1024 * 1024 + 1, 16 * 1024 * 1024]) {
      const message = { eventType: 'call.ended', payload: { text: 'x'.repeat(length) } };
      assert.equal((await refused(413, svix.message.create(app.id, message))).code, 'payload_too_large');
    }
  },

  async 'errors: 422 names the field'() {
    const app = await application();
    await invalid(['body', 'name'], svix.application.create({}));
    await invalid(['body', 'uid'], svix.application.create({ name: 'x', uid: 'no spaces' }));
    await invalid(['body', 'url'], svix.endpoint.create(app.id, { url: 'no url' }));
    await invalid(['body', 'secret'], svix.endpoint.create(app.id, { url: HOOK, secret: 'whsec_short' }));
    await invalid(['body', 'eventType'], svix.message.create(app.id, { eventType: 'no spaces', payload: {} }));
    await invalid(['body', 'payload'], svix.message.create(app.id, { eventType: 'a', payload: [1] }));
    await invalid(['query', 'limit'], svix.application.list({ limit: 251 }));
    await invalid(['query', 'iterator'], svix.message.list(app.id, { iterator: 'nonsense' }));
    const { id } = await svix.endpoint.create(app.id, { url: HOOK });
    await invalid(['body', 'key'], svix.endpoint.rotateSecret(app.id, id, { key: 'whsec_short' }));
    await invalid(['body', 'gracePeriodSeconds'], svix.endpoint.rotateSecret(app.id, id, { gracePeriodSeconds: 604_801 }));
  },

  async 'idempotency keys: the same answer to the same body, a conflict with another'() {
    const app = await application();
    const twice = async (call, one, another) => {
      const key = { idempotencyKey: fresh('key') };
      const answer = await call(one, key);
      assert.deepEqual(await call(one, key), answer);
      await refused(409, call(another, key));
      return answer;
    };
    const message = { eventType: 'call.ended', payload: { n: 1 } };
    await twice((body, key) => svix.message.create(app.id, body, key), message, { ...message, payload: { n: 2 } });
    assert.equal((await svix.message.list(app.id)).data.length, 1);
    await twice((body, key) => svix.application.create(body, key), { name: 'One' }, { name: 'Two' });
    const made = await twice((body, key) => svix.endpoint.create(app.id, body, key), { url: HOOK }, { url: `${HOOK}/2` });
    assert.equal((await svix.endpoint.list(app.id)).data.length, 1);
    const [one, another] = [fresh('type'), fresh('type')].map((name) => ({ name, description: 'x' }));
    await twice((body, key) => svix.eventType.create(body, key), one, another);
    await twice((body, key) => svix.endpoint.rotateSecret(app.id, made.id, body, key), {}, { gracePeriodSeconds: 60 });
    const [since, later] = [{ since: new Date(Date.now() - 60_000) }, { since: new Date(Date.now() - 30_000) }];
    await twice((body, key) => svix.endpoint.recover(app.id, made.id, body, key), since, later);
    const [first, second] = ['a.first', 'a.second'].map((eventType) => ({ eventType }));
    await twice((body, key) => svix.endpoint.sendExample(app.id, made.id, body, key), first, second);
  },
};
