import assert from 'node:assert/strict';

import { ApiException } from 'svix';

import { application, svix } from './support.mjs';

export default {
  async 'operations that the server does not have'() {
    const app = await application();
    const { id } = await svix.endpoint.create(app.id, { url: 'https://hooks.acme.example/in' });
    const since = new Date();
    const calls = {
      'endpoint.transformation.get': () => svix.endpoint.transformation.get(app.id, id),
      'endpoint.transformation.patch': () => svix.endpoint.transformation.patch(app.id, id, { enabled: false }),
      'endpoint.transformationPartialUpdate': () => svix.endpoint.transformationPartialUpdate(app.id, id, { enabled: false }),
      'message.precheck': () => svix.message.precheck(app.id, { eventType: 'a' }),
      'message.bulkExpungeContent': () => svix.message.bulkExpungeContent(app.id, {}),
      'message.expungeAllContents': () => svix.message.expungeAllContents(app.id),
      'message.poller.poll': () => svix.message.poller.poll(app.id, 'sink'),
      'message.poller.consumerPoll': () => svix.message.poller.consumerPoll(app.id, 'sink', 'consumer'),
      'message.poller.consumerSeek': () => svix.message.poller.consumerSeek(app.id, 'sink', 'consumer', { after: since }),
      'eventType.importOpenapi': () => svix.eventType.importOpenapi({ specRaw: '{}' }),
      'integration.list': () => svix.integration.list(app.id),
      'integration.create': () => svix.integration.create(app.id, { name: 'x' }),
      'integration.get': () => svix.integration.get(app.id, 'x'),
      'integration.update': () => svix.integration.update(app.id, 'x', { name: 'x' }),
      'integration.delete': () => svix.integration.delete(app.id, 'x'),
      'integration.rotateKey': () => svix.integration.rotateKey(app.id, 'x'),
      'statistics.aggregateEventTypes': () => svix.statistics.aggregateEventTypes(),
      'statistics.aggregateAppStats': () => svix.statistics.aggregateAppStats({ since, until: since }),
      'operationalWebhook.endpoint.list': () => svix.operationalWebhook.endpoint.list(),
      'operationalWebhook.endpoint.create': () => svix.operationalWebhook.endpoint.create({ url: 'https://a.example/' }),
      'operationalWebhook.endpoint.get': () => svix.operationalWebhook.endpoint.get('x'),
      'operationalWebhook.endpoint.upsert': () => svix.operationalWebhook.endpoint.upsert('x', { url: 'https://a.example/' }),
      'operationalWebhook.endpoint.delete': () => svix.operationalWebhook.endpoint.delete('x'),
      'operationalWebhook.endpoint.getSecret': () => svix.operationalWebhook.endpoint.getSecret('x'),
      'operationalWebhook.endpoint.rotateSecret': () => svix.operationalWebhook.endpoint.rotateSecret('x'),
      'operationalWebhook.endpoint.getHeaders': () => svix.operationalWebhook.endpoint.getHeaders('x'),
      'operationalWebhook.endpoint.setHeaders': () => svix.operationalWebhook.endpoint.setHeaders('x', { headers: {} }),
      'environment.export': () => svix.environment.export(),
      'environment.import': () => svix.environment.import({}),
      'connector.list': () => svix.connector.list(),
      'connector.get': () => svix.connector.get('x'),
      'destination.list': () => svix.destination.list(app.id),
      'destination.get': () => svix.destination.get(app.id, 'x'),
      'destination.transformation.get': () => svix.destination.transformation.get(app.id, 'x'),
      'autoconfigSubscription.create': () => svix.autoconfigSubscription.create(app.id),
      'autoconfigSubscription.rotate': () => svix.autoconfigSubscription.rotate(app.id, 'x'),
      'ingest.source.list': () => svix.ingest.source.list(),
      'ingest.source.create': () => svix.ingest.source.create({ name: 'x', type: 'generic-webhook' }),
      'ingest.source.rotateToken': () => svix.ingest.source.rotateToken('x'),
      'ingest.endpoint.list': () => svix.ingest.endpoint.list('x'),
      'ingest.endpoint.getSecret': () => svix.ingest.endpoint.getSecret('x', 'y'),
      'streaming.stream.list': () => svix.streaming.stream.list(),
      'streaming.stream.create': () => svix.streaming.stream.create({ name: 'x' }),
      'streaming.eventType.list': () => svix.streaming.eventType.list(),
      'streaming.events.create': () => svix.streaming.events.create('x', { events: [] }),
      'streaming.events.get': () => svix.streaming.events.get('x', 'y'),
      'streaming.sink.list': () => svix.streaming.sink.list('x'),
      'streaming.sink.getSecret': () => svix.streaming.sink.getSecret('x', 'y'),
      'streaming.sinkHeadersGet': () => svix.streaming.sinkHeadersGet('x', 'y'),
      'authentication.streamPortalAccess': () => svix.authentication.streamPortalAccess('x', {}),
      'authentication.streamLogout': () => svix.authentication.streamLogout(),
      'authentication.streamExpireAll': () => svix.authentication.streamExpireAll('x', {}),
      'authentication.getStreamPollerToken': () => svix.authentication.getStreamPollerToken('x', 'y'),
      'authentication.rotateStreamPollerToken': () => svix.authentication.rotateStreamPollerToken('x', 'y', {}),
    };
    const wrong = [];
    for (const [name, call] of Object.entries(calls)) {
      try {
        wrong.push(`${name}: answered with ${JSON.stringify(await call())}`);
      } catch (error) {
        try {
          assert.ok(error instanceof ApiException, error.stack);
          assert.ok([404, 501].includes(error.code), `${error.code} ${JSON.stringify(error.body)}`);
          const body = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
          assert.ok(body.code && body.detail, JSON.stringify(body));
        } catch (problem) {
          wrong.push(`${name}: ${problem.message}`);
        }
      }
    }
    assert.deepEqual(wrong, []);
  },
};
