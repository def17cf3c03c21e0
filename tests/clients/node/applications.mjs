import assert from 'node:assert/strict';

import { Ordering } from 'svix';

import { fresh, nobody, pagesBothWays, refused, svix } from './support.mjs';

const { application: applications } = svix;

export default {
  async 'applications: create, get or create, get, upsert, patch, delete'() {
    const uid = fresh('app');
    const before = Date.now() - 60_000;
    const made = await applications.create({ name: 'Acme', uid, metadata: { tier: 'gold' }, throttleRate: 50 });
    assert.match(made.id, /^app_/);
    assert.deepEqual([made.name, made.uid, made.metadata, made.throttleRate], ['Acme', uid, { tier: 'gold' }, 50]);
    assert.ok(made.createdAt > before && made.updatedAt >= made.createdAt);
    await refused(409, applications.create({ name: 'Other', uid }));
    assert.deepEqual(await applications.getOrCreate({ name: 'Other', uid }), made);
    assert.deepEqual(await applications.get(made.id), made);
    assert.deepEqual(await applications.get(uid), made);

    const another = fresh('app');
    const second = await applications.getOrCreate({ name: 'Second', uid: another });
    assert.equal(second.uid, another);
    assert.notEqual(second.id, made.id);
    const unnamed = await applications.create({ name: 'Unnamed' });
    assert.equal(unnamed.uid ?? null, null);

    const replaced = await applications.upsert(uid, { name: 'Acme Ltd', uid, metadata: { b: '2' } });
    assert.deepEqual([replaced.id, replaced.name, replaced.metadata], [made.id, 'Acme Ltd', { b: '2' }]);
    assert.equal(replaced.throttleRate ?? null, null);
    const third = fresh('app');
    const upserted = await applications.upsert(third, { name: 'Third' });
    assert.equal(upserted.uid, third);
    assert.deepEqual(await applications.get(third), upserted);

    const patched = await applications.patch(made.id, { throttleRate: 7 });
    assert.deepEqual([patched.name, patched.metadata, patched.throttleRate], ['Acme Ltd', { b: '2' }, 7]);
    const reset = await applications.patch(made.id, { throttleRate: null, uid: null, name: 'Renamed' });
    assert.deepEqual([reset.name, reset.uid ?? null, reset.throttleRate ?? null], ['Renamed', null, null]);
    await refused(404, applications.get(uid));

    for (const { id } of [made, second, unnamed, upserted]) assert.equal(await applications.delete(id), undefined);
    await refused(404, applications.get(made.id));
    await refused(404, applications.get(third));
    await refused(404, applications.delete(made.id));
    await refused(404, applications.patch(nobody('app'), { name: 'x' }));
  },

  async 'applications: pages, both ways and in both orders'() {
    const made = [];
    for (let number = 0; number < 5; number += 1) made.push(await applications.create({ name: fresh('paged') }));
    const ids = (pages) => pages.flatMap((page) => page.data.map((application) => application.id));
    const own = new Set(made.map((application) => application.id));
    for (const order of [Ordering.Ascending, Ordering.Descending]) {
      const { there, back } = await pagesBothWays((options) => applications.list({ limit: 2, order, ...options }));
      assert.ok(there.slice(0, -1).every((page) => page.data.length === 2 && !page.done));
      const expected = made.map((application) => application.id);
      if (order === Ordering.Descending) expected.reverse();
      assert.deepEqual(ids(there).filter((id) => own.has(id)), expected);
      assert.equal(new Set(ids(there)).size, ids(there).length);
      // The way back has all but the page that it starts from.
      assert.deepEqual(ids(back), ids(there.slice(0, -1)));
    }
    const first = (await applications.list({ limit: 1 })).data[0];
    assert.deepEqual((await applications.list()).data[0], first);
    for (const { id } of made) await applications.delete(id);
  },
};
