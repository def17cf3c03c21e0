import base64
from datetime import datetime, timedelta, timezone

from svix.api import (
    BackgroundTaskListOptions,
    EndpointGetStatsOptions,
    EndpointHeadersIn,
    EndpointHeadersPatchIn,
    EndpointIn,
    EndpointListOptions,
    EndpointPatch,
    EndpointSecretRotateIn,
    EventExampleIn,
    EventTypeIn,
    MessageIn,
    RecoverIn,
)
from svix.models import (
    BackgroundTaskStatus, BackgroundTaskType, BulkReplayIn, EndpointUpsertIn, MessageStatus, Ordering, ReplayIn,
)

from support import (
    HOOK, Receiver, application, does_not_verify, fresh, header, nobody, pages_both_ways, refused, svix, until, verifies,
)

endpoints = svix.endpoint
EVENT = MessageIn(event_type="call.ended", payload={"n": 1})


def resources():
    app = application()
    secret = "whsec_" + base64.b64encode(bytes([7] * 32)).decode()
    given = dict(
        url=HOOK, uid=fresh("ep"), description="theirs", event_types=["call.ended", "call.started"],
        channels=["ch0", "ch1"], metadata={"team": "a"}, throttle_rate=20, disabled=True,
    )
    made = endpoints.create(app.id, EndpointIn(**given, secret=secret, headers={"X-Team": "a"}))
    assert made.id.startswith("ep_")
    shown = made.model_dump(exclude={"id", "created_at", "updated_at"})
    assert {**shown, "channels": sorted(shown["channels"]), "event_types": sorted(shown["event_types"])} == given
    assert isinstance(made.created_at, datetime) and made.updated_at >= made.created_at
    assert endpoints.get_secret(app.id, made.id).key == secret
    assert endpoints.get(app.id, made.id) == made
    assert endpoints.get(app.uid, given["uid"]) == made
    refused(409, endpoints.create, app.id, EndpointIn(url=HOOK, uid=given["uid"]))

    bare = endpoints.create(app.uid, EndpointIn(url=HOOK))
    assert (bare.disabled, bare.description, bare.metadata) == (False, "", {})
    assert (bare.uid, bare.event_types, bare.channels, bare.throttle_rate) == (None, None, None, None)
    assert endpoints.get_secret(app.id, bare.id).key.startswith("whsec_")

    change = EndpointPatch(description="ours", disabled=False, metadata={"b": "2"})
    patched = endpoints.patch(app.id, made.id, change)
    assert (patched.description, patched.disabled, patched.metadata) == ("ours", False, {"b": "2"})
    assert (patched.url, patched.uid, patched.throttle_rate) == (HOOK, given["uid"], 20)
    assert (sorted(patched.channels), sorted(patched.event_types)) == (given["channels"], given["event_types"])
    reset = endpoints.patch(app.id, made.id, EndpointPatch(channels=None, event_types=None, throttle_rate=None))
    assert (reset.channels, reset.event_types, reset.throttle_rate, reset.description) == (None, None, None, "ours")

    url = HOOK + "/2"
    body = EndpointUpsertIn(url=url, uid=given["uid"], event_types=["call.ended"])
    replaced = endpoints.upsert(app.id, given["uid"], body)
    assert (replaced.id, replaced.url, replaced.event_types) == (made.id, url, ["call.ended"])
    assert (replaced.description, replaced.metadata) == ("", {})
    assert endpoints.get_secret(app.id, made.id).key == secret
    uid = fresh("ep")
    upserted = endpoints.upsert(app.id, uid, EndpointUpsertIn(url=url))
    assert upserted.uid == uid
    assert endpoints.get(app.id, uid) == upserted

    listed = endpoints.list(app.id)
    assert (listed.data, listed.done) == ([replaced, bare, upserted], True)

    assert endpoints.delete(app.id, given["uid"]) is None
    refused(404, endpoints.get, app.id, made.id)
    refused(404, endpoints.get_secret, app.id, made.id)
    refused(404, endpoints.delete, app.id, nobody("ep"))


def pages():
    app = application()
    made = [endpoints.create(app.id, EndpointIn(url=HOOK)).id for _ in range(5)]
    for order in Ordering:
        def page(iterator=None, order=order):
            return endpoints.list(app.id, EndpointListOptions(limit=2, order=order, iterator=iterator))

        there, back = pages_both_ways(page)
        expected = made if order == Ordering.ASCENDING else made[::-1]
        assert [endpoint.id for page in there for endpoint in page.data] == expected
        assert [endpoint.id for page in back for endpoint in page.data] == expected[:4]


def headers():
    app = application()
    receiver = Receiver()
    id = endpoints.create(app.id, EndpointIn(url=receiver.url, headers={"X-One": "1", "X-Two": "2"})).id

    def names():
        found = endpoints.get_headers(app.id, id)
        return sorted(name.lower() for name in [*found.headers, *found.sensitive])

    def arrive():
        message = svix.message.create(app.id, EVENT)
        request = receiver.of(message.id)[0]
        return [header(request, name) for name in ["x-one", "x-two", "x-three"]]

    assert names() == ["x-one", "x-two"]
    assert arrive() == ["1", "2", None]
    assert endpoints.set_headers(app.id, id, EndpointHeadersIn(headers={"X-Two": "22", "X-Three": "3"})) is None
    assert names() == ["x-three", "x-two"]
    assert arrive() == [None, "22", "3"]
    endpoints.patch_headers(app.id, id, EndpointHeadersPatchIn(headers={"X-One": "11"}, delete_headers=["X-Three"]))
    assert names() == ["x-one", "x-two"]
    assert arrive() == ["11", "22", None]
    endpoints.patch(app.id, id, EndpointPatch(description="the headers stay"))
    endpoints.upsert(app.id, id, EndpointUpsertIn(url=receiver.url))
    assert arrive() == ["11", "22", None]
    endpoints.set_headers(app.id, id, EndpointHeadersIn(headers={}))
    assert arrive() == [None, None, None]
    receiver.stop()


def rotation():
    app = application()
    receiver = Receiver()
    id = endpoints.create(app.id, EndpointIn(url=receiver.url)).id

    def send():
        return receiver.of(svix.message.create(app.id, EVENT).id)[0]

    first = endpoints.get_secret(app.id, id).key
    verifies(first, send())

    rotated = endpoints.rotate_secret(app.id, id, EndpointSecretRotateIn())
    second = endpoints.get_secret(app.id, id).key
    assert rotated.key == second != first
    in_overlap = send()
    verifies(first, in_overlap)
    verifies(second, in_overlap)

    third = "whsec_" + base64.b64encode(bytes([9] * 24)).decode()
    rotated = endpoints.rotate_secret(app.id, id, EndpointSecretRotateIn(key=third, grace_period_seconds=0))
    assert rotated.key == third == endpoints.get_secret(app.id, id).key
    after = send()
    verifies(third, after)
    does_not_verify(second, after)
    receiver.stop()


def examples():
    app = application()
    receiver = Receiver()
    id = endpoints.create(app.id, EndpointIn(url=receiver.url)).id
    key = endpoints.get_secret(app.id, id).key
    sent = endpoints.send_example(app.id, id, EventExampleIn(event_type="svix.ping"))
    assert sent.event_type == "svix.ping"
    verifies(key, receiver.of(sent.id)[0])

    name = fresh("invoice").replace("-", "_")
    schemas = {"1": {"type": "object", "properties": {"total": {"type": "integer"}}, "examples": [{"total": 7}]}}
    svix.event_type.create(EventTypeIn(name=name, description="an invoice", schemas=schemas))
    example = endpoints.send_example(app.id, id, EventExampleIn(event_type=name))
    assert (example.event_type, example.payload) == (name, {"total": 7})
    verifies(key, receiver.of(example.id)[0])
    receiver.stop()


def recovery():
    app = application()
    receiver = Receiver(422)
    since = datetime.now(timezone.utc) - timedelta(hours=1)
    soon = datetime.now(timezone.utc) + timedelta(minutes=1)
    id = endpoints.create(app.id, EndpointIn(url=receiver.url)).id
    key = endpoints.get_secret(app.id, id).key

    def stats(**options):
        return endpoints.get_stats(app.id, id, EndpointGetStatsOptions(**options))

    empty = stats()
    assert (empty.success, empty.pending, empty.sending, empty.fail, empty.canceled) == (0, 0, 0, 0, 0)
    message = svix.message.create(app.id, EVENT)
    until("it is dead", lambda: stats().fail == 1)
    assert stats(since=since, until=soon).fail == 1
    assert stats(until=since).fail == 0

    receiver.status = 200
    begun = endpoints.recover(app.id, id, RecoverIn(since=since, until=soon))
    assert begun.task == BackgroundTaskType.ENDPOINT_RECOVER
    verifies(key, receiver.of(message.id, 2)[1])
    until("it is delivered", lambda: stats().success == 1)

    tasks = svix.background_task
    until("the task is finished", lambda: tasks.get(begun.id).status == BackgroundTaskStatus.FINISHED)
    finished = tasks.get(begun.id)
    assert (finished.id, finished.task) == (begun.id, BackgroundTaskType.ENDPOINT_RECOVER)

    def listed(**options):
        return [task.id for task in tasks.list(BackgroundTaskListOptions(limit=250, **options)).data]

    assert begun.id in listed()
    of_this_kind = dict(status=BackgroundTaskStatus.FINISHED, task=BackgroundTaskType.ENDPOINT_RECOVER)
    assert begun.id in listed(**of_this_kind, order=Ordering.DESCENDING)
    assert begun.id not in listed(status=BackgroundTaskStatus.RUNNING)
    assert listed(task=BackgroundTaskType.SDK_GENERATE) == []
    refused(404, tasks.get, "qtask_none")
    late = Receiver()
    late_id = endpoints.create(app.id, EndpointIn(url=late.url)).id
    missing = endpoints.replay_missing(app.id, late_id, ReplayIn(since=since))
    assert missing.task == BackgroundTaskType.ENDPOINT_REPLAY
    late.of(message.id)
    filters = BulkReplayIn(since=since, event_types=["call.ended"], status=MessageStatus.SUCCESS)
    bulk = endpoints.bulk_replay(app.id, late_id, filters)
    assert bulk.task == BackgroundTaskType.ENDPOINT_BULK_REPLAY
    late.of(message.id, 2)
    for task in (missing, bulk):
        until("it is finished", lambda: tasks.get(task.id).status == BackgroundTaskStatus.FINISHED)
    assert missing.id in listed(task=BackgroundTaskType.ENDPOINT_REPLAY)
    late.stop()
    destination = svix.message_attempt.list_attempted_destinations(app.id, message.id).data[0]
    assert destination.status == MessageStatus.SUCCESS
    receiver.stop()


GROUPS = {
    "endpoints: create, list, get, upsert, patch, delete": resources,
    "endpoints: pages, both ways and in both orders": pages,
    "endpoints: headers that requests carry": headers,
    "endpoints: rotated secrets, old and new both verified in the overlap": rotation,
    "endpoints: send example": examples,
    "endpoints: statistics, and recovery as a background task": recovery,
}
