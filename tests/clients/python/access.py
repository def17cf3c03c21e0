import os
from urllib.parse import urlparse

from svix.api import AppPortalAccessIn, ApplicationIn, ApplicationTokenExpireIn, EndpointIn, EventTypeIn, MessageIn

from support import Receiver, application, invalid, refused, svix, with_token

EVENT = MessageIn(event_type="call.ended", payload={})


def portal():
    own, other = application(), application()
    receiver = Receiver()
    access = svix.authentication.app_portal_access(own.uid, AppPortalAccessIn())
    assert access.token and urlparse(access.url).scheme in ["http", "https"]
    portal = with_token(access.token)
    assert portal.application.get(own.id).id == own.id
    endpoint = portal.endpoint.create(own.uid, EndpointIn(url=receiver.url))
    assert portal.endpoint.get_secret(own.id, endpoint.id).key.startswith("whsec_")
    message = svix.message.create(own.id, EVENT)
    receiver.of(message.id)
    assert len(portal.message.list(own.id).data) == 1
    portal.event_type.list()

    refused(404, portal.application.get, other.id)
    refused(404, portal.endpoint.list, other.uid)
    refused(404, portal.endpoint.create, other.id, EndpointIn(url=receiver.url))
    refused(404, portal.message.get, other.id, message.id)
    refused(404, portal.message_attempt.list_by_msg, other.id, message.id)
    refused(404, portal.message.create, other.id, EVENT)
    refused(403, portal.message.create, own.id, EVENT)
    refused(403, portal.application.list)
    refused(403, portal.application.create, ApplicationIn(name="x"))
    refused(403, portal.application.delete, own.id)
    refused(403, portal.event_type.create, EventTypeIn(name="x", description="x"))
    refused(403, portal.authentication.app_portal_access, own.id, AppPortalAccessIn())
    refused(404, portal.authentication.app_portal_access, other.id, AppPortalAccessIn())
    receiver.stop()


def leaving():
    app = application()
    authentication = svix.authentication

    def enter():
        return with_token(authentication.app_portal_access(app.id, AppPortalAccessIn(expiry=7200)).token)

    portals = [enter(), enter(), enter()]
    for portal in portals:
        portal.application.get(app.id)
    assert portals[0].authentication.logout() is None
    refused(401, portals[0].application.get, app.id)
    portals[1].application.get(app.id)
    assert authentication.expire_all(app.id, ApplicationTokenExpireIn()) is None
    for portal in portals:
        refused(401, portal.application.get, app.id)
    enter().application.get(app.id)
    # What the server cannot do is refused, and not done in another way.
    invalid(["body", "expiry"], authentication.expire_all, app.id, ApplicationTokenExpireIn(expiry=60))
    sessions = ApplicationTokenExpireIn(session_ids=["x"])
    invalid(["body", "sessionIds"], authentication.expire_all, app.id, sessions)
    invalid(["body", "readOnly"], authentication.app_portal_access, app.id, AppPortalAccessIn(read_only=True))
    refused(409, authentication.logout)


def with_application():
    uid = f"py-made-{os.getpid()}"
    given = AppPortalAccessIn(application=ApplicationIn(name="Made", uid=uid))
    token = svix.authentication.app_portal_access(uid, given).token
    assert with_token(token).application.get(uid).name == "Made"


def health():
    assert svix.health.get() is None


GROUPS = {
    "authentication: a portal token reaches its own application alone": portal,
    "authentication: logout and expire all": leaving,
    "authentication: an application made with its token": with_application,
    "health": health,
}
