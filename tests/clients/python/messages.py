import time

from svix.api import ApplicationIn, EndpointIn, MessageCreateOptions, MessageGetOptions, MessageIn, MessageListOptions
from svix.api.message import message_in_raw

from support import Receiver, application, fresh, invalid, nobody, pages_both_ways, refused, svix, verifies

messages = svix.message
CREATED = MessageCreateOptions(with_content=True)
CONTENT = MessageGetOptions(with_content=True)
EVENT = MessageIn(event_type="call.ended", payload={})


def resources():
    app = application()
    event_id = fresh("event")
    payload = {"call": {"id": "c1", "ü": "€ 5"}, "n": 1}
    given = MessageIn(event_type="call.ended", payload=payload, event_id=event_id, channels=["agent:a", "agent:b"])
    made = messages.create(app.uid, given, CREATED)
    assert made.id.startswith("msg_")
    assert (made.event_type, made.event_id, made.payload) == ("call.ended", event_id, payload)
    assert sorted(made.channels) == given.channels
    refused(409, messages.create, app.id, given)
    assert messages.get(app.id, made.id, CONTENT) == made
    assert messages.get(app.uid, event_id, CONTENT) == made
    assert messages.get(app.id, event_id).payload == {}

    plain = MessageIn(event_type="call.ended", payload=payload)
    without = messages.create(app.id, plain, MessageCreateOptions(with_content=False))
    assert (without.payload, without.event_id) == ({}, None)
    assert messages.get(app.id, without.id, CONTENT).payload == payload

    assert messages.expunge_content(app.id, made.id) is None
    expunged = messages.get(app.id, made.id, CONTENT)
    assert "c1" not in str(expunged.payload) and expunged.event_type == "call.ended"
    refused(404, messages.get, app.id, nobody("msg"))
    refused(404, messages.get, app.id, "no-such-event")
    refused(404, messages.expunge_content, app.id, nobody("msg"))


def with_application():
    uid = fresh("made")
    message = MessageIn(event_type="call.ended", payload={}, application=ApplicationIn(name="Made", uid=uid))
    assert messages.create(uid, message).id != messages.create(uid, message).id
    assert svix.application.get(uid).name == "Made"
    assert len(messages.list(uid).data) == 2
    refused(404, messages.create, fresh("none"), EVENT)
    invalid(["body", "application", "uid"], messages.create, fresh("other"), message)


def from_text():
    app = application()
    receiver = Receiver()
    endpoint = svix.endpoint.create(app.id, EndpointIn(url=receiver.url))
    key = svix.endpoint.get_secret(app.id, endpoint.id).key
    text = '{ "b": 1.50,\n  "a": "\\u00fc" }'
    # What is no JSON object is still handed over as one, since clients read one.
    shown = {text: {"b": 1.5, "a": "ü"}, "just a text": {"rawPayload": "just a text"}, "[1, 2]": {"rawPayload": "[1, 2]"}}
    for payload, expected in shown.items():
        made = messages.create(app.id, message_in_raw("call.ended", payload), CREATED)
        assert made.payload == expected
        assert messages.get(app.id, made.id, CONTENT) == made
        request = receiver.of(made.id)[0]
        assert request[1].decode() == payload
        verifies(key, request)
    typed = message_in_raw("call.ended", "a=b", "application/x-www-form-urlencoded")
    invalid(["body", "transformationsParams", "headers"], messages.create, app.id, typed)
    receiver.stop()


def lists():
    app = application()
    sent = []
    for number, event_type in enumerate(["call.started", "call.ended", "call.started", "call.failed", "call.ended"]):
        channels = ["even"] if number % 2 == 0 else ["odd", "seldom"]
        message = MessageIn(event_type=event_type, payload={"number": number}, channels=channels)
        sent.append(messages.create(app.id, message, CREATED))
        time.sleep(0.005)

    def ids(page):
        return [message.id for message in page.data]

    def expect(numbers, **options):
        found = ids(messages.list(app.id, MessageListOptions(**options)))
        assert found == [sent[number].id for number in numbers], options

    newest_first = sent[::-1]
    everything = messages.list(app.id, MessageListOptions(with_content=True))
    assert (everything.data, everything.done) == (newest_first, True)
    assert [message.payload for message in messages.list(app.id).data] == [{}] * 5
    expect([4, 2, 0], channel="even")
    expect([3, 1], channel="seldom")
    expect([4, 1], event_types=["call.ended"])
    expect([4, 3, 1], event_types=["call.ended", "call.failed"])
    expect([4], event_types=["call.ended"], channel="even")
    expect([1, 0], before=sent[2].timestamp)
    expect([4, 3], after=sent[3].timestamp)

    def page(iterator=None):
        return messages.list(app.id, MessageListOptions(limit=2, iterator=iterator))

    there, back = pages_both_ways(page)
    of_newest = [message.id for message in newest_first]
    assert [ids(page) for page in there] == [of_newest[:2], of_newest[2:4], of_newest[4:]]
    assert [ids(page) for page in back] == [ids(page) for page in there[:2]]


GROUPS = {
    "messages: create, get, expunge": resources,
    "messages: create, with an application to be made": with_application,
    "messages: create, from a text that is sent as it is": from_text,
    "messages: lists, filtered and in pages": lists,
}
