from datetime import datetime, timedelta, timezone

from svix.api import ApplicationIn, ApplicationListOptions
from svix.models import ApplicationPatch, Ordering

from support import fresh, nobody, pages_both_ways, refused, svix

applications = svix.application


def resources():
    uid = fresh("app")
    made = applications.create(ApplicationIn(name="Acme", uid=uid, metadata={"tier": "gold"}, throttle_rate=50))
    assert made.id.startswith("app_")
    assert (made.name, made.uid, made.metadata, made.throttle_rate) == ("Acme", uid, {"tier": "gold"}, 50)
    assert datetime.now(timezone.utc) - timedelta(minutes=1) < made.created_at <= made.updated_at
    refused(409, applications.create, ApplicationIn(name="Other", uid=uid))
    assert applications.get_or_create(ApplicationIn(name="Other", uid=uid)) == made
    assert applications.get(made.id) == made
    assert applications.get(uid) == made

    another = fresh("app")
    second = applications.get_or_create(ApplicationIn(name="Second", uid=another))
    assert second.uid == another and second.id != made.id
    unnamed = applications.create(ApplicationIn(name="Unnamed"))
    assert unnamed.uid is None

    replaced = applications.upsert(uid, ApplicationIn(name="Acme Ltd", uid=uid, metadata={"b": "2"}))
    assert (replaced.id, replaced.name, replaced.metadata) == (made.id, "Acme Ltd", {"b": "2"})
    assert replaced.throttle_rate is None
    third = fresh("app")
    upserted = applications.upsert(third, ApplicationIn(name="Third"))
    assert upserted.uid == third
    assert applications.get(third) == upserted

    patched = applications.patch(made.id, ApplicationPatch(throttle_rate=7))
    assert (patched.name, patched.metadata, patched.throttle_rate) == ("Acme Ltd", {"b": "2"}, 7)
    reset = applications.patch(made.id, ApplicationPatch(throttle_rate=None, uid=None, name="Renamed"))
    assert (reset.name, reset.uid, reset.throttle_rate) == ("Renamed", None, None)
    refused(404, applications.get, uid)

    for application in [made, second, unnamed, upserted]:
        assert applications.delete(application.id) is None
    refused(404, applications.get, made.id)
    refused(404, applications.get, third)
    refused(404, applications.delete, made.id)
    refused(404, applications.patch, nobody("app"), ApplicationPatch(name="x"))


def pages():
    made = [applications.create(ApplicationIn(name=fresh("paged"))).id for _ in range(5)]
    for order in Ordering:
        def page(iterator=None, order=order):
            return applications.list(ApplicationListOptions(limit=2, order=order, iterator=iterator))

        there, back = pages_both_ways(page)
        assert all(len(page.data) == 2 and not page.done for page in there[:-1])
        ids = [application.id for page in there for application in page.data]
        expected = made if order == Ordering.ASCENDING else made[::-1]
        assert [id for id in ids if id in made] == expected
        assert len(set(ids)) == len(ids)
        # The way back has all but the page that it starts from.
        before_the_last = [application.id for page in there[:-1] for application in page.data]
        assert [application.id for page in back for application in page.data] == before_the_last
    for id in made:
        applications.delete(id)


GROUPS = {
    "applications: create, get or create, get, upsert, patch, delete": resources,
    "applications: pages, both ways and in both orders": pages,
}
