from datetime import datetime, timezone

from svix.api import EndpointIn
from svix import models
from svix.exceptions import HttpError

from support import HOOK, application, svix

NOW = datetime.now(timezone.utc)


def missing():
    app = application()
    id = svix.endpoint.create(app.id, EndpointIn(url=HOOK)).id
    operational, ingest, streaming = svix.operational_webhook.endpoint, svix.ingest, svix.streaming
    calls = [
        (svix.endpoint.get_attempt_stats, app.id, id),
        (svix.endpoint.transformation.get, app.id, id),
        (svix.endpoint.transformation.patch, app.id, id, models.EndpointTransformationPatch(enabled=False)),
        (svix.endpoint.transformation_partial_update, app.id, id, models.EndpointTransformationIn(enabled=False)),
        (svix.message.precheck, app.id, models.MessagePrecheckIn(event_type="a")),
        (svix.message.bulk_expunge_content, app.id, models.BulkExpungeContentsIn()),
        (svix.message.expunge_all_contents, app.id),
        (svix.message.poller.poll, app.id, "sink"),
        (svix.message.poller.consumer_poll, app.id, "sink", "consumer"),
        (svix.event_type.import_openapi, models.EventTypeImportOpenApiIn(spec_raw="{}")),
        (svix.integration.list, app.id),
        (svix.integration.create, app.id, models.IntegrationIn(name="x")),
        (svix.integration.get, app.id, "x"),
        (svix.integration.delete, app.id, "x"),
        (svix.integration.rotate_key, app.id, "x"),
        (svix.statistics.aggregate_event_types,),
        (svix.statistics.aggregate_app_stats, models.AppUsageStatsIn(since=NOW, until=NOW)),
        (operational.list,),
        (operational.create, models.OperationalWebhookEndpointIn(url=HOOK)),
        (operational.get, "x"),
        (operational.delete, "x"),
        (operational.get_secret, "x"),
        (operational.get_headers, "x"),
        (svix.environment.export,),
        (svix.environment.import_, models.EnvironmentIn()),
        (svix.connector.list,),
        (svix.connector.get, "x"),
        (svix.destination.list, app.id),
        (svix.destination.get, app.id, "x"),
        (svix.autoconfig_subscription.delete, app.id, "x"),
        (ingest.source.list,),
        (ingest.source.get, "x"),
        (ingest.endpoint.list, "x"),
        (ingest.endpoint.get_secret, "x", "y"),
        (streaming.stream.list,),
        (streaming.stream.create, models.StreamIn(name="x")),
        (streaming.event_type.list,),
        (streaming.events.get, "x", "y"),
        (streaming.sink.list, "x"),
        (streaming.sink_headers_get, "x", "y"),
        (svix.authentication.stream_portal_access, "x", models.StreamPortalAccessIn()),
        (svix.authentication.stream_logout,),
        (svix.authentication.get_stream_poller_token, "x", "y"),
    ]
    wrong = []
    for call, *arguments in calls:
        try:
            wrong.append((call.__qualname__, call(*arguments)))
        except HttpError as error:
            if error.status_code not in (404, 501) or not error.code or not error.detail:
                wrong.append((call.__qualname__, error.status_code, error.to_dict()))
        except Exception as error:
            wrong.append((call.__qualname__, repr(error)))
    assert not wrong, wrong


GROUPS = {"operations that the server does not have": missing}
