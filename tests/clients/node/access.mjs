import assert from 'node:assert/strict';

import { application, invalid, Receiver, refused, svix, withToken } from './support.mjs';

export default {
  async 'authentication: a portal token reaches its own application alone'() {
    const [own, other] = [await application(), await application()];
    const receiver = await Receiver.start();
    const access = await svix.authentication.appPortalAccess(own.uid, {});
    assert.ok(access.token && new URL(access.url));
    const portal = withToken(access.token);
    assert.equal((await portal.application.get(own.id)).id, own.id);
    const endpoint = await portal.endpoint.create(own.uid, { url: receiver.url });
    assert.match((await portal.endpoint.getSecret(own.id, endpoint.id)).key, /^whsec_/);
    const message = await svix.message.create(own.id, { eventType: 'call.ended', payload: {} });
    await receiver.of(message.id);
    assert.equal((await portal.message.list(own.id)).data.length, 1);
    assert.ok((await portal.eventType.list()).data);

    await refused(404, portal.application.get(other.id));
    await refused(404, portal.endpoint.list(other.uid));
    await refused(404, portal.endpoint.create(other.id, { url: receiver.url }));
    await refused(404, portal.message.get(other.id, message.id));
    await refused(404, portal.messageAttempt.listByMsg(other.id, message.id));
    await refused(404, portal.message.create(other.id, { eventType: 'call.ended', payload: {} }));
    await refused(403, portal.message.create(own.id, { eventType: 'call.ended', payload: {} }));
    await refused(403, portal.application.list());
    await refused(403, portal.application.create({ name: 'x' }));
    await refused(403, portal.application.delete(own.id));
    await refused(403, portal.eventType.create({ name: 'x', description: 'x' }));
    await refused(403, portal.authentication.appPortalAccess(own.id, {}));
    await refused(404, portal.authentication.appPortalAccess(other.id, {}));
    receiver.stop();
  },

  async 'authentication: logout and expire all'() {
    const app = await application();
    const enter = async () => withToken((await svix.authentication.appPortalAccess(app.id, { expiry: 7200 })).token);
    const [first, second, third] = [await enter(), await enter(), await enter()];
    for (const portal of [first, second, third]) await portal.application.get(app.id);
    assert.equal(await first.authentication.logout(), undefined);
    await refused(401, first.application.get(app.id));
    await second.application.get(app.id);
    assert.equal(await svix.authentication.expireAll(app.id), undefined);
    for (const portal of [first, second, third]) await refused(401, portal.application.get(app.id));
    await (await enter()).application.get(app.id);
    // What the server cannot do is refused, and not done in another way.
    await invalid(['body', 'expiry'], svix.authentication.expireAll(app.id, { expiry: 60 }));
    await invalid(['body', 'sessionIds'], svix.authentication.expireAll(app.id, { sessionIds: ['x'] }));
    await invalid(['body', 'capabilities'], svix.authentication.appPortalAccess(app.id, { capabilities: ['ViewBase'] }));
    await refused(409, svix.authentication.logout());
  },

  async 'authentication: an application made with its token'() {
    const uid = `made-${process.pid}`;
    const { token } = await svix.authentication.appPortalAccess(uid, { application: { name: 'Made', uid } });
    assert.equal((await withToken(token).application.get(uid)).name, 'Made');
  },

  async health() {
    await svix.health.get();
  },
};
