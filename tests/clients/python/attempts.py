import time
from datetime import datetime

from svix.api import (
    EndpointIn,
    MessageAttemptListAttemptedDestinationsOptions as DestinationsOptions,
    MessageAttemptListAttemptedMessagesOptions as MessagesOptions,
    MessageAttemptListByEndpointOptions as ByEndpointOptions,
    MessageAttemptListByMsgOptions as ByMsgOptions,
    MessageIn,
)
from svix.api.message_attempt import MessageAttemptGetOptions
from svix.models import MessageAttemptTriggerType, MessageStatus, StatusCodeClass

from support import Receiver, application, nobody, pages_both_ways, refused, svix, until, verifies

attempts = svix.message_attempt


class Scene:
    """An application whose messages one endpoint takes, one refuses for now, one refuses for good, and one cannot be
    reached."""

    def __init__(self):
        self.app = application()
        self.receivers = {"takes": Receiver(200), "fails": Receiver(503), "refuses": Receiver(422)}
        self.receivers["takes"].answer = b'{"thank":"you"}'
        unreachable = Receiver()
        unreachable.stop()
        self.endpoints = {}
        for name, receiver in {**self.receivers, "unreachable": unreachable}.items():
            endpoint = EndpointIn(url=receiver.url, uid=name, channels=["all", name])
            self.endpoints[name] = svix.endpoint.create(self.app.id, endpoint).id
        message = MessageIn(event_type="call.ended", payload={"n": 1}, channels=["all"])
        self.message = svix.message.create(self.app.id, message)
        until("all were tried", lambda: self.tried() == set(self.endpoints.values()))

    def tried(self):
        return {attempt.endpoint_id for attempt in attempts.list_by_msg(self.app.id, self.message.id).data}

    def stop(self):
        for receiver in self.receivers.values():
            receiver.stop()


def lists():
    scene = Scene()
    app, message = scene.app, scene.message

    def by_message(**options):
        return attempts.list_by_msg(app.id, message.id, ByMsgOptions(**options)).data

    def expect(names, **options):
        found = {attempt.endpoint_id for attempt in by_message(**options)}
        assert found == {scene.endpoints[name] for name in names}, options

    assert all(attempt.msg_id == message.id and attempt.id.startswith("atmpt_") for attempt in by_message())
    expect(["takes", "fails", "refuses", "unreachable"])
    expect(["takes"], status=MessageStatus.SUCCESS)
    expect(["fails", "refuses", "unreachable"], status=MessageStatus.FAIL)
    expect(["takes"], status_code_class=StatusCodeClass.CODE2XX)
    expect(["refuses"], status_code_class=StatusCodeClass.CODE4XX)
    expect(["fails"], status_code_class=StatusCodeClass.CODE5XX)
    expect(["unreachable"], status_code_class=StatusCodeClass.CODE_NONE)
    expect(["refuses"], endpoint_id="refuses")
    expect(["takes", "fails", "refuses", "unreachable"], channel="all", event_types=["call.ended"])
    expect([], event_types=["other.event"])
    expect([], channel="none")
    expect([], before=message.timestamp)
    expect(["takes", "fails", "refuses", "unreachable"], after=message.timestamp)

    options = ByEndpointOptions(with_content=True, with_msg=True)
    attempt = attempts.list_by_endpoint(app.uid, "takes", options).data[0]
    assert (attempt.status, attempt.status_text, attempt.response_status_code) == (MessageStatus.SUCCESS, "success", 200)
    assert (attempt.response, attempt.url) == ('{"thank":"you"}', scene.receivers["takes"].url)
    assert attempt.trigger_type == MessageAttemptTriggerType.SCHEDULED
    assert isinstance(attempt.timestamp, datetime) and attempt.response_duration_ms >= 0
    assert (attempt.msg.id, attempt.msg.payload) == (message.id, {"n": 1})
    got = attempts.get(app.id, message.id, attempt.id)
    assert got == attempt.model_copy(update={"msg": None})
    assert attempts.get(app.id, message.id, attempt.id, MessageAttemptGetOptions(expanded_statuses=False)) == got
    assert attempts.list_by_endpoint(app.id, "takes").data[0].response == ""

    assert attempts.expunge_content(app.id, message.id, attempt.id) is None
    assert attempts.get(app.id, message.id, attempt.id).response == ""
    refused(404, attempts.get, app.id, message.id, nobody("atmpt"))
    refused(404, attempts.list_by_msg, app.id, nobody("msg"))
    refused(404, attempts.list_by_endpoint, app.id, nobody("ep"))
    scene.stop()


def of_an_endpoint():
    app = application()
    receiver = Receiver()
    id = svix.endpoint.create(app.id, EndpointIn(url=receiver.url)).id
    sent = []
    for number in range(5):
        event_type = "other.event" if number == 4 else "call.ended"
        message = svix.message.create(app.id, MessageIn(event_type=event_type, payload={}, channels=[f"ch{number % 2}"]))
        until("it is in the log", lambda: len(attempts.list_by_msg(app.id, message.id).data) == 1)
        sent.append(message.id)
        time.sleep(0.005)

    def expect(numbers, **options):
        found = attempts.list_by_endpoint(app.id, id, ByEndpointOptions(**options)).data
        assert [attempt.msg_id for attempt in found] == [sent[number] for number in numbers], options

    expect([4, 3, 2, 1, 0])
    expect([3, 1], channel="ch1")
    expect([4], event_types=["other.event"])
    expect([4, 2, 0], status=MessageStatus.SUCCESS, channel="ch0")
    expect([], status_code_class=StatusCodeClass.CODE5XX)
    third = attempts.list_by_msg(app.id, sent[2]).data[0].timestamp
    expect([1, 0], before=third)
    expect([4, 3, 2], after=third)

    def page(iterator=None):
        return attempts.list_by_endpoint(app.id, id, ByEndpointOptions(limit=2, iterator=iterator))

    there, back = pages_both_ways(page)
    assert [attempt.msg_id for page in there for attempt in page.data] == sent[::-1]
    assert [attempt.msg_id for page in back for attempt in page.data] == sent[::-1][:4]
    receiver.stop()


def attempted():
    scene = Scene()
    app, message = scene.app, scene.message

    def destinations(**options):
        return attempts.list_attempted_destinations(app.id, message.id, DestinationsOptions(**options))

    found = {destination.uid: destination for destination in destinations().data}
    standing = {
        "takes": MessageStatus.SUCCESS, "fails": MessageStatus.PENDING, "refuses": MessageStatus.FAIL,
        "unreachable": MessageStatus.PENDING,
    }
    assert {uid: destination.status for uid, destination in found.items()} == standing
    assert (found["fails"].id, found["fails"].status_text) == (scene.endpoints["fails"], "pending")
    assert found["fails"].next_attempt > message.timestamp
    assert found["takes"].next_attempt is None
    there, _ = pages_both_ways(lambda **options: destinations(limit=3, **options))
    assert [len(page.data) for page in there] == [3, 1]

    more = []
    for number in range(3):
        given = MessageIn(
            event_type="other.event", payload={"number": number}, channels=["takes"], event_id=f"more-{number}"
        )
        more.append(svix.message.create(app.id, given).id)
        time.sleep(0.005)

    def messages(**options):
        return attempts.list_attempted_messages(app.id, "takes", MessagesOptions(**options))

    def ids(page):
        return [item.id for item in page.data]

    until("all are delivered", lambda: len(messages(status=MessageStatus.SUCCESS).data) == 4)
    newest_first = [*more[::-1], message.id]
    page = messages(with_content=True)
    assert (ids(page), page.done) == (newest_first, True)
    newest = page.data[0]
    assert (newest.payload, newest.event_id, newest.status_text) == ({"number": 2}, "more-2", "success")
    assert messages().data[0].payload == {}
    assert ids(messages(event_types=["call.ended"])) == [message.id]
    assert ids(messages(channel="takes")) == more[::-1]
    assert ids(messages(status=MessageStatus.FAIL)) == []
    there, back = pages_both_ways(lambda **options: messages(limit=3, **options))
    assert [id for page in there for id in ids(page)] == newest_first
    assert [id for page in back for id in ids(page)] == newest_first[:3]
    dead = attempts.list_attempted_messages(app.id, "refuses").data[0]
    assert (dead.id, dead.status) == (message.id, MessageStatus.FAIL)
    scene.stop()


def canceled():
    scene = Scene()
    app, message = scene.app, scene.message
    # What waits of an expunged message is canceled.
    svix.message.expunge_content(app.id, message.id)

    def status(**options):
        return attempts.list_attempted_messages(app.id, "fails", MessagesOptions(**options)).data[0].status

    until("it is canceled", lambda: status() == MessageStatus.CANCELED)
    assert status(status=MessageStatus.CANCELED) == MessageStatus.CANCELED
    # Clients of before know no such status.
    assert status(expanded_statuses=False) == MessageStatus.FAIL
    destinations = attempts.list_attempted_destinations(app.id, message.id).data
    assert {destination.uid: destination.status_text for destination in destinations}["fails"] == "canceled"
    scene.stop()


def resend():
    scene = Scene()
    app, message = scene.app, scene.message
    key = svix.endpoint.get_secret(app.id, scene.endpoints["refuses"]).key
    scene.receivers["refuses"].status = 200
    attempts.resend(app.id, message.id, "refuses")
    first, second = scene.receivers["refuses"].of(message.id, 2)
    verifies(key, first)
    verifies(key, second)
    assert second[1] == first[1]

    def listed():
        return attempts.list_by_msg(app.id, message.id, ByMsgOptions(endpoint_id=scene.endpoints["refuses"])).data

    until("it is in the log", lambda: len(listed()) == 2)
    newest = listed()[0]
    assert (newest.status, newest.trigger_type) == (MessageStatus.SUCCESS, MessageAttemptTriggerType.MANUAL)
    # What was delivered may be sent once more.
    other = svix.endpoint.get_secret(app.id, "takes").key
    attempts.resend(app.id, message.id, scene.endpoints["takes"])
    verifies(other, scene.receivers["takes"].of(message.id, 2)[1])
    refused(404, attempts.resend, app.id, message.id, nobody("ep"))
    refused(404, attempts.resend, app.id, nobody("msg"), scene.endpoints["takes"])
    scene.stop()


GROUPS = {
    "attempts: list by message and by endpoint, get, expunge": lists,
    "attempts: filtered lists of an endpoint, in pages": of_an_endpoint,
    "attempts: attempted destinations and attempted messages": attempted,
    "attempts: canceled deliveries": canceled,
    "attempts: resend": resend,
}
