"""A receiver as the vendors' pages write it, with the official package: python receiver.py <port>

/levers    the Flask receiver of Levers' verification page
/levrage   the function and the Flask receiver of Levrage's webhooks page
/subverse  the Flask receiver of Subverse's webhooks integration page, and its advice to check the custom headers

Each request makes one line of JSON on stdout: {"vendor", "accepted", "event"}. What the pages print goes to stderr.
"""
import json
import os
import sys
import threading
from datetime import datetime
from pathlib import Path

from flask import Flask, request, jsonify
from svix.webhooks import Webhook, WebhookVerificationError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from levrage_verify import verify_webhook

app = Flask(__name__)
secret = os.environ["LEVERS_SECRET"]
levrage_secret = os.environ["LEVRAGE_SECRET"]
subverse_authorization = "Bearer " + os.environ["SUBVERSE_TOKEN"]


def tell(vendor, accepted, event=None):
    print(json.dumps({"vendor": vendor, "accepted": accepted, "event": event}), flush=True)


@app.route('/levers', methods=['POST'])
def webhook_handler():
    headers = request.headers
    payload = request.get_data()  # Get raw body

    try:
        wh = Webhook(secret)
        event = wh.verify(payload, headers)
    except WebhookVerificationError as e:
        tell("levers", False)
        return ('Invalid signature', 400)

    # Process the verified event
    event_type = event.get('type')
    event_data = event.get('data')

    if event_type == 'phone_call.ended':
        print(f"Call ended: {event_data['providerCallId']}", file=sys.stderr)
        # Your business logic here

    tell("levers", True, event_type)
    return ('Success', 204)


@app.route("/levrage", methods=["POST"])
def handle_webhook():
    signature = request.headers.get("X-Levrage-Signature", "")
    if not verify_webhook(request.get_data(), signature, levrage_secret):
        tell("levrage", False)
        return {"status": "refused"}, 401
    event = request.json

    if event["event"] == "CALL_ENDED":
        data = event["data"]

        # Update CRM with call results
        update_crm_contact(
            phone=data["phone_number"],
            status=data["status"],
            sentiment=data["sentiment"],
            summary=data["call_summary"],
            collected=data.get("details_collection", {}).get("collected_values", {}),
            recording=data.get("recording_url")
        )

    tell("levrage", True, event["event"])
    return {"status": "ok"}, 200


def update_crm_contact(**contact):
    print(f"Contact: {contact}", file=sys.stderr)


@app.route('/subverse', methods=['POST'])
def webhook():
    if request.headers.get("Authorization") != subverse_authorization:
        tell("subverse", False)
        return jsonify({'received': False}), 401
    data = request.json
    event_type = data.get('eventType')
    created_at = data.get('createdAt')
    datetime.fromisoformat(created_at.replace("Z", "+00:00"))

    # Acknowledge receipt immediately
    response = jsonify({'received': True, 'eventType': event_type})

    # Process asynchronously
    thread = threading.Thread(
        target=process_webhook_async,
        args=(event_type, data.get('data'))
    )
    thread.start()

    tell("subverse", True, event_type)
    return response, 200


def process_webhook_async(event_type, data):
    print(f"{event_type}: {data.get('callId') or data['workflowId']}", file=sys.stderr)


if __name__ == '__main__':
    app.run(host="127.0.0.1", port=int(sys.argv[1]))
