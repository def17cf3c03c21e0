import asyncio
import os

from svix.api import ApplicationIn, EndpointIn, MessageIn, SvixAsync, SvixOptions
from svix.exceptions import HttpError

from support import SERVER_URL, Receiver, fresh, verifies


async def _one_event():
    svix = SvixAsync(os.environ["RINGBACK_TOKEN"], SvixOptions(server_url=SERVER_URL))
    app = await svix.application.create(ApplicationIn(name="Acme", uid=fresh("acme")))
    receiver = Receiver()
    endpoint = await svix.endpoint.create(app.id, EndpointIn(url=receiver.url))
    key = (await svix.endpoint.get_secret(app.id, endpoint.id)).key
    event = MessageIn(event_type="call.ended", payload={})
    sent = await asyncio.gather(*(svix.message.create(app.id, event) for _ in range(20)))
    for message in sent:
        verifies(key, (await asyncio.to_thread(receiver.of, message.id))[0])
    assert {message.id for message in (await svix.message.list(app.id)).data} == {message.id for message in sent}
    try:
        await svix.application.get("none")
        raise AssertionError("there is one")
    except HttpError as error:
        assert (error.status_code, error.code) == (404, "not_found")
    await svix.application.delete(app.id)
    receiver.stop()


GROUPS = {"the asynchronous client: many events at once": lambda: asyncio.run(_one_event())}
