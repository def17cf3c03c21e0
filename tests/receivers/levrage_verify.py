"""Levrage's verification function as its webhooks page prints it, over lines on stdin.

Each line is {"payload": <base64>, "signature": ..., "secret": ...}; each answer is a line, True or False.
"""
import base64
import json
import sys

# From here to the return: the page's own text.
import hmac
import hashlib

def verify_webhook(payload: bytes, signature: str, secret: str) -> bool:
    expected = hmac.new(
        secret.encode(),
        payload,
        hashlib.sha256
    ).hexdigest()
    return hmac.compare_digest(expected, signature)


if __name__ == "__main__":
    for line in sys.stdin:
        case = json.loads(line)
        print(verify_webhook(base64.b64decode(case["payload"]), case["signature"], case["secret"]))
