from svix.api import EventTypeDeleteOptions, EventTypeIn, EventTypeListOptions, EventTypePatch
from svix.models import EventTypeUpsertIn, Ordering

from support import fresh, invalid, pages_both_ways, refused, svix

event_types = svix.event_type
SCHEMAS = {"1": {"title": "A call", "type": "object", "properties": {"id": {"type": "string"}}}}
EXPUNGE = EventTypeDeleteOptions(expunge=True)


def named(word):
    return fresh(word).replace("-", ".")


def resources():
    name = named("call")
    made = event_types.create(EventTypeIn(name=name, description="A call", schemas=SCHEMAS, deprecated=True))
    assert (made.name, made.description, made.schemas) == (name, "A call", SCHEMAS)
    assert (made.deprecated, made.archived) == (True, False)
    refused(409, event_types.create, EventTypeIn(name=name, description="again"))
    assert event_types.get(name) == made

    patched = event_types.patch(name, EventTypePatch(description="Calls"))
    assert (patched.description, patched.schemas, patched.deprecated) == ("Calls", SCHEMAS, True)
    assert event_types.upsert(name, EventTypeUpsertIn(description="All calls")).description == "All calls"
    other = named("call")
    assert event_types.upsert(other, EventTypeUpsertIn(description="made", schemas=SCHEMAS)).name == other

    assert event_types.delete(name) is None
    assert event_types.get(name).archived is True
    assert event_types.patch(name, EventTypePatch(archived=False)).archived is False
    event_types.delete(name, EXPUNGE)
    refused(404, event_types.get, name)
    event_types.delete(other, EXPUNGE)
    refused(404, event_types.delete, other)
    invalid(["body", "name"], event_types.create, EventTypeIn(name="no spaces", description="x"))


def lists():
    prefix = named("listed")
    names = [f"{prefix}.{letter}" for letter in "abcde"]
    for name in names:
        event_types.create(EventTypeIn(name=name, description="x", schemas=SCHEMAS))
    event_types.delete(names[4])

    def own(pages):
        return [found for page in pages for found in page.data if found.name.startswith(prefix)]

    def listed(**options):
        return own([event_types.list(EventTypeListOptions(limit=250, **options))])

    assert [found.name for found in listed()] == names[:4]
    assert [found.name for found in listed(include_archived=True)] == names
    assert listed()[0].schemas is None
    assert listed(with_content=True)[0].schemas == SCHEMAS
    for order in Ordering:
        def page(iterator=None, order=order):
            options = EventTypeListOptions(limit=2, order=order, include_archived=True, iterator=iterator)
            return event_types.list(options)

        there, back = pages_both_ways(page)
        assert [found.name for found in own(there)] == (names if order == Ordering.ASCENDING else names[::-1])
        # The way back has all but the page that it starts from.
        before_the_last = [found for page in there[:-1] for found in page.data]
        assert [found for page in back for found in page.data] == before_the_last


GROUPS = {
    "event types: create, get, upsert, patch, archive, expunge": resources,
    "event types: lists": lists,
}
