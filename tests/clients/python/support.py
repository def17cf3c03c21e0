"""What the groups share: clients, a receiver that verifies with the official package, and refusals."""
import itertools
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from svix.api import ApplicationIn, Svix, SvixOptions
from svix.exceptions import HttpError, HTTPValidationError
from svix.webhooks import Webhook, WebhookVerificationError

SERVER_URL = os.environ["RINGBACK_URL"]
PATIENCE_SECONDS = 60
HOOK = "https://hooks.acme.example/in"


def with_token(token):
    return Svix(token, SvixOptions(server_url=SERVER_URL))


svix = with_token(os.environ["RINGBACK_TOKEN"])
_numbers = itertools.count()


def fresh(word):
    """A name that nobody has used before."""
    return f"py-{word}-{os.getpid()}-{next(_numbers)}"


def application():
    """An application of its own."""
    return svix.application.create(ApplicationIn(name="Acme", uid=fresh("acme")))


def nobody(prefix):
    """An id in the server's form that nothing has."""
    return f"{prefix}_{'0' * 26}"


def until(what, look):
    """Waits until `look` gives something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def refused(status, call, *arguments):
    """The call must be refused with this status, and the body be the API's own JSON."""
    try:
        answer = call(*arguments)
    except HttpError as error:
        assert error.status_code == status, error.to_dict()
        assert error.code and error.detail, error.to_dict()
        return error
    raise AssertionError(f"answered with {answer!r} instead of {status}")


def invalid(loc, call, *arguments):
    """The call must be refused with 422, and the answer name this field."""
    try:
        answer = call(*arguments)
    except HTTPValidationError as error:
        assert error.status_code == 422, error
        assert [item.loc for item in error.detail] == [loc], error
        assert error.detail[0].type == "value_error" and error.detail[0].msg, error
        return
    raise AssertionError(f"answered with {answer!r} instead of 422 for {loc}")


def pages_both_ways(list_page):
    """All pages of a list, the iterator handed on, and all pages on the way back."""
    there, back = [], []
    page = list_page()
    there.append(page)
    while not page.done:
        page = list_page(iterator=page.iterator)
        there.append(page)
    while page.data:
        page = list_page(iterator=page.prev_iterator)
        if page.data:
            back.insert(0, page)
    return there, back


class Receiver:
    """A receiver on loopback: it keeps what arrives and answers what it was told last."""

    def __init__(self, status=200):
        self.status, self.answer, self.requests = status, b"", []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append((dict(self.headers.items()), body))
                self.send_response(receiver.status)
                self.send_header("content-length", str(len(receiver.answer)))
                if receiver.status == 422:  # What it refuses, it never wants again.
                    self.send_header("webhook-delivery", "abort-message")
                self.end_headers()
                self.wfile.write(receiver.answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, message, count=1):
        """The attempts of this message, once there are as many."""
        def own():
            return [request for request in list(self.requests) if header(request, "svix-id") == message]

        until(f"{count} of {message} came", lambda: len(own()) >= count)
        return own()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def header(request, name):
    headers, _ = request
    return {key.lower(): value for key, value in headers.items()}.get(name)


def verifies(secret, request):
    """The official package must accept the request, and refuse it with another body, id or time."""
    headers, body = request
    headers = {name.lower(): value for name, value in headers.items()}
    webhook = Webhook(secret)
    webhook.verify(body, headers)
    webhook.verify(body.decode(), headers)
    later = str(int(headers["svix-timestamp"]) + 1)
    for other_body, other_headers in [
        (b" " + body, headers),
        (body + b" ", headers),
        (body, {**headers, "svix-id": "msg_other"}),
        (body, {**headers, "svix-timestamp": later}),
        (body, {**headers, "svix-signature": ""}),
    ]:
        does_not_verify(secret, (other_headers, other_body))


def does_not_verify(secret, request):
    headers, body = request
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return
    raise AssertionError(f"accepted: {headers} {json.dumps(body.decode())}")
