//! Fan-out: which endpoints of an application get a message. Pure.

use crate::endpoint::{Endpoint, EndpointSettings, EndpointStatus};
use crate::message::{NoRoute, Routing};

/// Routes a message by its event type and channels over all endpoints of its application.
pub fn route<'e>(event_type: &str, channels: &[String], endpoints: impl IntoIterator<Item = &'e Endpoint>) -> Routing {
    let mut to = Vec::new();
    let mut furthest = NoRoute::NoEndpoints;
    for endpoint in endpoints {
        match wants(endpoint, event_type, channels) {
            Wants::Yes => to.push(endpoint.id),
            Wants::No(Some(why)) => furthest = furthest.max(why),
            Wants::No(None) => {}
        }
    }
    if to.is_empty() { Routing::Nowhere(furthest) } else { Routing::To(to) }
}

enum Wants {
    Yes,
    No(Option<NoRoute>),
}

fn wants(endpoint: &Endpoint, event_type: &str, channels: &[String]) -> Wants {
    let settings = &endpoint.settings;
    if settings.replay_only {
        return Wants::No(None);
    }
    match endpoint.status {
        EndpointStatus::Deleted { .. } => return Wants::No(None),
        EndpointStatus::Disabled { .. } => return Wants::No(Some(NoRoute::AllDisabled)),
        EndpointStatus::Enabled => {}
    }
    if !takes_type(settings, event_type) {
        return Wants::No(Some(NoRoute::EventTypeNotWanted));
    }
    if !channels_match(&settings.channels, channels) {
        return Wants::No(Some(NoRoute::ChannelsNotWanted));
    }
    Wants::Yes
}

/// Whether an endpoint's filters take such a message, however the endpoint stands.
pub(crate) fn takes(endpoint: &Endpoint, event_type: &str, channels: &[String]) -> bool {
    takes_type(&endpoint.settings, event_type) && channels_match(&endpoint.settings.channels, channels)
}

fn takes_type(settings: &EndpointSettings, event_type: &str) -> bool {
    settings.event_types.is_empty() || settings.event_types.iter().any(|wanted| type_matches(wanted, event_type))
}

/// Whether a filter, exact or ending in `.*`, takes an event type.
pub(crate) fn type_matches(wanted: &str, event_type: &str) -> bool {
    match wanted.strip_suffix(".*") {
        None => wanted == event_type,
        Some(parent) => event_type.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.')),
    }
}

/// The dimension of a channel: what stands before its first colon.
fn dimension(channel: &str) -> Option<&str> {
    channel.split_once(':').map(|(dimension, _)| dimension)
}

/// Channels without a dimension: an endpoint that lists some wants a message that has one of them.
/// Channels of a dimension: an endpoint that lists some wants one of them from a message that has that
/// dimension at all, and takes every message that has not.
fn channels_match(listed: &[String], has: &[String]) -> bool {
    let plain_listed = listed.iter().any(|channel| dimension(channel).is_none());
    if plain_listed && !has.iter().any(|channel| dimension(channel).is_none() && listed.contains(channel)) {
        return false;
    }
    listed.iter().filter_map(|channel| dimension(channel)).all(|wanted| {
        let mut of_dimension = has.iter().filter(|channel| dimension(channel) == Some(wanted)).peekable();
        of_dimension.peek().is_none() || of_dimension.any(|channel| listed.contains(channel))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::DisableReason;
    use crate::id::{ApplicationId, EndpointId};
    use crate::time::Timestamp;

    fn endpoint(types: &[&str], channels: &[&str]) -> Endpoint {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Endpoint {
            id: EndpointId::from_parts(Timestamp::ZERO, 1),
            application: ApplicationId::from_parts(Timestamp::ZERO, 1),
            settings: EndpointSettings {
                event_types: owned(types),
                channels: owned(channels),
                ..EndpointSettings::at("https://a.example/")
            },
            keys: Vec::new(),
            status: EndpointStatus::Enabled,
            created_at: Timestamp::ZERO,
            updated_at: Timestamp::ZERO,
        }
    }

    fn goes(types: &[&str], listed: &[&str], event_type: &str, has: &[&str]) -> bool {
        let has: Vec<String> = has.iter().map(|text| (*text).to_owned()).collect();
        matches!(route(event_type, &has, [&endpoint(types, listed)]), Routing::To(_))
    }

    #[test]
    fn event_types_match_exactly_or_by_their_parent() {
        let table: [(&[&str], &str, bool); 8] = [
            (&[], "call.completed", true),
            (&["call.completed"], "call.completed", true),
            (&["call.completed"], "call.placed", false),
            (&["call.*"], "call.placed", true),
            (&["call.*"], "call.leg.placed", true),
            (&["call.*"], "call", false),
            (&["call.*"], "callback.placed", false),
            (&["workflow.*", "call.placed"], "call.placed", true),
        ];
        for (wanted, event_type, expected) in table {
            assert_eq!(goes(wanted, &[], event_type, &[]), expected, "{wanted:?} {event_type}");
        }
    }

    #[test]
    fn channels_match_by_dimension() {
        let table: [(&[&str], &[&str], bool); 12] = [
            (&[], &[], true),
            (&[], &["eu", "agent:a"], true),
            (&["eu"], &["eu"], true),
            (&["eu", "us"], &["us"], true),
            (&["eu"], &["us"], false),
            (&["eu"], &[], false),
            (&["agent:a"], &["agent:a"], true),
            (&["agent:a"], &["agent:b"], false),
            // A message without the dimension passes: an agent filter does not hide workflow events.
            (&["agent:a"], &["workflow:w"], true),
            (&["agent:a"], &[], true),
            (&["agent:a", "workflow:w"], &["agent:a", "workflow:x"], false),
            (&["agent:a", "agent:b"], &["agent:b", "workflow:x"], true),
        ];
        for (listed, has, expected) in table {
            assert_eq!(goes(&[], listed, "e", has), expected, "{listed:?} {has:?}");
        }
    }

    #[test]
    fn a_message_that_goes_nowhere_says_how_far_it_got() {
        let none: [&Endpoint; 0] = [];
        assert_eq!(route("e", &[], none), Routing::Nowhere(NoRoute::NoEndpoints));
        let mut disabled = endpoint(&[], &[]);
        disabled.status = EndpointStatus::Disabled { since: Timestamp::ZERO, reason: DisableReason::Requested };
        assert_eq!(route("e", &[], [&disabled]), Routing::Nowhere(NoRoute::AllDisabled));
        let mut for_replays = endpoint(&[], &[]);
        for_replays.settings.replay_only = true;
        assert_eq!(route("e", &[], [&for_replays]), Routing::Nowhere(NoRoute::NoEndpoints), "it is not meant");
        assert!(takes(&for_replays, "e", &[]) && takes(&disabled, "e", &[]), "however it stands");
        let other_type = endpoint(&["x"], &[]);
        assert_eq!(route("e", &[], [&disabled, &other_type]), Routing::Nowhere(NoRoute::EventTypeNotWanted));
        let other_channel = endpoint(&[], &["eu"]);
        let all = [&other_channel, &disabled, &other_type];
        assert_eq!(route("e", &[], all), Routing::Nowhere(NoRoute::ChannelsNotWanted));
    }
}
