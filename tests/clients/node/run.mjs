// Takes the official npm client through every operation: RINGBACK_URL=... RINGBACK_TOKEN=... node run.mjs
import access from './access.mjs';
import applications from './applications.mjs';
import attempts from './attempts.mjs';
import deliveries from './deliveries.mjs';
import endpoints from './endpoints.mjs';
import errors from './errors.mjs';
import eventTypes from './event_types.mjs';
import messages from './messages.mjs';
import missing from './missing.mjs';

const groups = { ...applications, ...endpoints, ...eventTypes, ...messages, ...deliveries, ...attempts, ...access, ...errors, ...missing };

let failed = 0;
for (const [name, group] of Object.entries(groups)) {
  try {
    await group();
    console.log(`node: ${name}`);
  } catch (error) {
    failed += 1;
    const answer = error.body === undefined ? '' : `\n${error.code}: ${JSON.stringify(error.body)}`;
    console.log(`node: ${name}: FAILED\n${error.stack}${answer}`);
  }
}
// Connections that are kept alive must not keep the program.
process.exit(failed === 0 ? 0 : 1);
