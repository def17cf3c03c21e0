import json

from svix.api import EndpointIn, MessageIn

from support import Receiver, application, header, svix, verifies

PAYLOAD = {"text": "naïve – “quoted”"}


def deliveries():
    app = application()
    everything, calls, even = Receiver(), Receiver(), Receiver()

    def opened(receiver, **settings):
        endpoint = svix.endpoint.create(app.id, EndpointIn(url=receiver.url, **settings))
        return svix.endpoint.get_secret(app.id, endpoint.id).key

    keys = [opened(everything), opened(calls, event_types=["call.ended"]), opened(even, channels=["even"])]
    call = svix.message.create(app.id, MessageIn(event_type="call.ended", payload=PAYLOAD))
    other = svix.message.create(app.id, MessageIn(event_type="other.event", channels=["even"], payload=PAYLOAD))
    verifies(keys[0], everything.of(call.id)[0])
    verifies(keys[0], everything.of(other.id)[0])
    verifies(keys[1], calls.of(call.id)[0])
    verifies(keys[2], even.of(other.id)[0])
    request = everything.of(call.id)[0]
    assert header(request, "content-type") == "application/json"
    assert json.loads(request[1]) == PAYLOAD
    assert [len(receiver.requests) for receiver in [everything, calls, even]] == [2, 1, 1]
    for receiver in [everything, calls, even]:
        receiver.stop()


GROUPS = {"deliveries: verified by the receiver, routed by type and channel": deliveries}
