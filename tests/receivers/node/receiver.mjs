// A receiver as the vendors' pages write it, with the official package: node receiver.mjs <port>
//
// /levers    the Express receiver of Levers' verification page
// /levrage   the check of Levrage's webhooks page, which prints it in Python, over the raw body
// /subverse  the Express receiver of Subverse's webhooks integration page, and its advice to check the custom headers
//
// The page's receiver uses what `verify` returns, which the package's 2.0 and later no longer do. So it runs with the
// last 1.x, and behind a check by the newest version.
//
// Each request makes one line of JSON on stdout: {"vendor", "accepted", "event"}. What the pages print goes to stderr.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { Webhook } from "svix";
import { Webhook as NewestWebhook } from "svix-newest";
import express from 'express';

const app = express();
const secret = process.env.LEVERS_SECRET;
const levrageSecret = process.env.LEVRAGE_SECRET;
const subverseAuthorization = `Bearer ${process.env.SUBVERSE_TOKEN}`;

const tell = (vendor, accepted, event) => console.log(JSON.stringify({ vendor, accepted, event }));

// Raw body parser - IMPORTANT: do not use express.json() for webhooks
app.use('/levers', express.raw({ type: 'application/json' }));

app.post('/levers', (req, res, next) => {
  try {
    new NewestWebhook(secret).verify(req.body.toString(), req.headers);
    next();
  } catch (err) {
    console.error('the newest package refused it:', err);
    tell('levers', false);
    res.status(401).json({ error: 'Invalid signature' });
  }
});

app.post('/levers', (req, res) => {
  const payload = req.body;
  const headers = req.headers;

  const wh = new Webhook(secret);

  try {
    const event = wh.verify(payload.toString(), {
      'svix-id': headers['svix-id'],
      'svix-timestamp': headers['svix-timestamp'],
      'svix-signature': headers['svix-signature']
    });

    // Process the verified event
    const eventType = event.type;
    const eventData = event.data;

    if (eventType === 'phone_call.ended') {
      console.error(`Call ended: ${eventData.providerCallId}`);
      // Your business logic here
    }

    tell('levers', true, eventType);
    res.status(200).json({ status: 'success' });
  } catch (err) {
    console.error('Webhook verification failed:', err);
    tell('levers', false);
    res.status(401).json({ error: 'Invalid signature' });
  }
});

app.use('/levrage', express.raw({ type: 'application/json' }));

app.post('/levrage', (req, res) => {
  const expected = Buffer.from(createHmac('sha256', levrageSecret).update(req.body ?? '').digest('hex'));
  const signature = Buffer.from(req.headers['x-levrage-signature'] ?? '');
  if (expected.length !== signature.length || !timingSafeEqual(expected, signature)) {
    tell('levrage', false);
    return res.status(401).json({ status: 'refused' });
  }
  const event = JSON.parse(req.body);
  tell('levrage', event.data.session_id !== undefined, event.event);
  res.status(200).json({ status: 'ok' });
});

app.use('/subverse', express.json());

app.post('/subverse', async (req, res) => {
  if (req.headers.authorization !== subverseAuthorization) {
    tell('subverse', false);
    return res.status(401).json({ received: false });
  }
  const { eventType, createdAt, data } = req.body;
  tell('subverse', !Number.isNaN(Date.parse(createdAt)) && (data.callId ?? data.workflowId) !== undefined, eventType);

  // Acknowledge receipt immediately
  res.status(200).json({
    received: true,
    eventType: eventType
  });
});

const port = Number(process.argv[2]);
app.listen(port, '127.0.0.1', (err) => {
  if (err) throw err;
  console.error(`Webhook server running on port ${port}`);
});
