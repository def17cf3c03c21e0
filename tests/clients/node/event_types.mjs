import assert from 'node:assert/strict';

import { Ordering } from 'svix';

import { fresh, invalid, pagesBothWays, refused, svix } from './support.mjs';

const { eventType: eventTypes } = svix;
const named = (word) => fresh(word).replaceAll('-', '.');
const schemas = { 1: { title: 'A call', type: 'object', properties: { id: { type: 'string' } } } };

export default {
  async 'event types: create, get, upsert, patch, archive, expunge'() {
    const name = named('call');
    const made = await eventTypes.create({ name, description: 'A call', schemas, deprecated: true });
    assert.deepEqual([made.name, made.description, made.schemas, made.deprecated, made.archived], [name, 'A call', schemas, true, false]);
    assert.ok(made.createdAt instanceof Date);
    await refused(409, eventTypes.create({ name, description: 'again' }));
    assert.deepEqual(await eventTypes.get(name), made);

    const patched = await eventTypes.patch(name, { description: 'Calls' });
    assert.deepEqual([patched.description, patched.schemas, patched.deprecated], ['Calls', schemas, true]);
    const replaced = await eventTypes.upsert(name, { description: 'All calls' });
    assert.equal(replaced.description, 'All calls');
    const other = named('call');
    assert.equal((await eventTypes.upsert(other, { description: 'made', schemas })).name, other);

    assert.equal(await eventTypes.delete(name), undefined);
    assert.equal((await eventTypes.get(name)).archived, true);
    assert.equal((await eventTypes.patch(name, { archived: false })).archived, false);
    await eventTypes.delete(name, { expunge: true });
    await refused(404, eventTypes.get(name));
    await eventTypes.delete(other, { expunge: true });
    await refused(404, eventTypes.delete(other));
    await invalid(['body', 'name'], eventTypes.create({ name: 'no spaces', description: 'x' }));
  },

  async 'event types: lists'() {
    const prefix = named('listed');
    const names = ['a', 'b', 'c', 'd', 'e'].map((letter) => `${prefix}.${letter}`);
    for (const name of names) await eventTypes.create({ name, description: 'x', schemas });
    await eventTypes.delete(names[4]);
    const own = (pages) => pages.flatMap((page) => page.data).filter((type) => type.name.startsWith(prefix));
    const list = async (options) => own([await eventTypes.list({ limit: 250, ...options })]);
    assert.deepEqual((await list()).map((type) => type.name), names.slice(0, 4));
    assert.deepEqual((await list({ includeArchived: true })).map((type) => type.name), names);
    assert.equal((await list())[0].schemas ?? null, null);
    assert.deepEqual((await list({ withContent: true }))[0].schemas, schemas);
    for (const order of [Ordering.Ascending, Ordering.Descending]) {
      const page = (options) => eventTypes.list({ limit: 2, order, includeArchived: true, ...options });
      const { there, back } = await pagesBothWays(page);
      assert.deepEqual(own(there).map((type) => type.name), order === Ordering.Ascending ? names : names.toReversed());
      assert.deepEqual(back.flatMap((page) => page.data), there.slice(0, -1).flatMap((page) => page.data));
    }
  },
};
