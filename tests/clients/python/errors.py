from datetime import datetime, timedelta, timezone

from svix.api import (
    ApplicationCreateOptions,
    ApplicationIn,
    ApplicationListOptions,
    EndpointCreateOptions,
    EndpointIn,
    EndpointRecoverOptions,
    EndpointRotateSecretOptions,
    EndpointSecretRotateIn,
    EndpointSendExampleOptions,
    EventExampleIn,
    EventTypeCreateOptions,
    EventTypeIn,
    MessageCreateOptions,
    MessageIn,
    MessageListOptions,
    RecoverIn,
)

from support import HOOK, application, fresh, invalid, nobody, refused, svix, with_token


def statuses():
    app = application()
    for token in ["wrong", "testsk_wrong.eu", nobody("sk")]:
        client = with_token(token)
        assert refused(401, client.application.list).code == "authentication_failed"
        refused(401, client.message.create, app.id, MessageIn(event_type="a", payload={}))
    assert refused(404, svix.application.get, nobody("app")).code == "not_found"
    assert refused(404, svix.endpoint.get, app.id, "none").code == "not_found"
    assert refused(409, svix.application.create, ApplicationIn(name="x", uid=app.uid)).code == "conflict"
    # A little more than is allowed, and so much more that the server answers before it has read it all.
    for length in [1024 * 1024 + 1, 16 * 1024 * 1024]:
        message = MessageIn(event_type="call.ended", payload={"text": "x" * length})
        assert refused(413, svix.message.create, app.id, message).code == "payload_too_large"


def fields():
    app = application()
    invalid(["body", "name"], svix.application.create, ApplicationIn(name=""))
    invalid(["body", "uid"], svix.application.create, ApplicationIn(name="x", uid="no spaces"))
    invalid(["body", "url"], svix.endpoint.create, app.id, EndpointIn(url="no url"))
    invalid(["body", "secret"], svix.endpoint.create, app.id, EndpointIn(url=HOOK, secret="whsec_short"))
    invalid(["body", "eventType"], svix.message.create, app.id, MessageIn(event_type="no spaces", payload={}))
    invalid(["query", "limit"], svix.application.list, ApplicationListOptions(limit=251))
    invalid(["query", "iterator"], svix.message.list, app.id, MessageListOptions(iterator="nonsense"))
    id = svix.endpoint.create(app.id, EndpointIn(url=HOOK)).id
    rotate = svix.endpoint.rotate_secret
    invalid(["body", "key"], rotate, app.id, id, EndpointSecretRotateIn(key="whsec_short"))
    invalid(["body", "gracePeriodSeconds"], rotate, app.id, id, EndpointSecretRotateIn(grace_period_seconds=604_801))


def idempotency():
    app = application()

    def twice(options, call, one, another):
        key = options(idempotency_key=fresh("key"))
        answer = call(one, key)
        assert call(one, key) == answer
        refused(409, call, another, key)
        return answer

    def message(n):
        return MessageIn(event_type="call.ended", payload={"n": n})

    twice(MessageCreateOptions, lambda body, key: svix.message.create(app.id, body, key), message(1), message(2))
    assert len(svix.message.list(app.id).data) == 1
    twice(ApplicationCreateOptions, svix.application.create, ApplicationIn(name="One"), ApplicationIn(name="Two"))
    one, another = EndpointIn(url=HOOK), EndpointIn(url=HOOK + "/2")
    id = twice(EndpointCreateOptions, lambda body, key: svix.endpoint.create(app.id, body, key), one, another).id
    assert len(svix.endpoint.list(app.id).data) == 1
    one, another = (EventTypeIn(name=fresh("type"), description="x") for _ in range(2))
    twice(EventTypeCreateOptions, svix.event_type.create, one, another)
    one, another = EndpointSecretRotateIn(), EndpointSecretRotateIn(grace_period_seconds=60)
    rotate = svix.endpoint.rotate_secret
    twice(EndpointRotateSecretOptions, lambda body, key: rotate(app.id, id, body, key), one, another)
    one, another = (RecoverIn(since=datetime.now(timezone.utc) - timedelta(seconds=ago)) for ago in [60, 30])
    twice(EndpointRecoverOptions, lambda body, key: svix.endpoint.recover(app.id, id, body, key), one, another)
    one, another = (EventExampleIn(event_type=event_type) for event_type in ["a.first", "a.second"])
    example = svix.endpoint.send_example
    twice(EndpointSendExampleOptions, lambda body, key: example(app.id, id, body, key), one, another)


GROUPS = {
    "errors: 401, 404, 409, 413": statuses,
    "errors: 422 names the field": fields,
    "idempotency keys: the same answer to the same body, a conflict with another": idempotency,
}
