"""Shows that a receiver accepts and refuses what it should, without ringback: python probe.py <base-url>

Sends requests that the official package (levers), the page's function (levrage) and the configured header (subverse)
make valid, and the same ones altered. Exits with 1 at the first wrong answer.
"""
import hashlib
import hmac
import json
import os
import sys
import urllib.error
import urllib.request
from datetime import datetime, timezone

from svix.webhooks import Webhook

base = sys.argv[1].rstrip("/")


def status(vendor, body, headers):
    headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(f"{base}/{vendor}", data=body, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def levers(body):
    now = datetime.now(timezone.utc)
    signature = Webhook(os.environ["LEVERS_SECRET"]).sign("msg_probe", now, body.decode())
    return {"svix-id": "msg_probe", "svix-timestamp": str(int(now.timestamp())), "svix-signature": signature}


def levrage(body):
    key = os.environ["LEVRAGE_SECRET"].encode()
    return {"X-Levrage-Signature": hmac.new(key, body, hashlib.sha256).hexdigest()}


def subverse(_):
    return {"Authorization": "Bearer " + os.environ["SUBVERSE_TOKEN"]}


def altered(headers):
    """The last header with another character in its middle: the last one of a base64 text has bits that mean nothing."""
    name, value = list(headers.items())[-1]
    place = len(value) // 2
    return {**headers, name: value[:place] + ("A" if value[place] != "A" else "B") + value[place + 1:]}


def expect(what, got, wanted):
    if got not in wanted:
        sys.exit(f"{base}: {what} was answered with {got}")


LEVRAGE = {"session_id": "s", "phone_number": "+1", "status": "busy", "sentiment": None, "call_summary": None}
CASES = [
    ("levers", levers, {"type": "phone_call.ended", "data": {"providerCallId": "probe"}}),
    ("levrage", levrage, {"event": "CALL_ENDED", "timestamp": "2025-01-15T10:30:00Z", "data": LEVRAGE}),
    ("subverse", subverse, {"eventType": "call.placed", "createdAt": "2025-12-08T10:30:00Z", "data": {"callId": "c"}}),
]
ACCEPTED, REFUSED = range(200, 300), (400, 401)

for vendor, sign, event in CASES:
    body = json.dumps(event).encode()
    headers = sign(body)
    expect(f"a valid {vendor} request", status(vendor, body, headers), ACCEPTED)
    expect(f"an altered {vendor} header", status(vendor, body, altered(headers)), REFUSED)
    expect(f"a {vendor} request without its headers", status(vendor, body, {}), REFUSED)
    # Subverse signs nothing, so its receivers cannot see an altered body.
    if vendor != "subverse":
        expect(f"an altered {vendor} body", status(vendor, body + b" ", headers), REFUSED)
print(f"{base}: valid requests were accepted, altered ones refused")
