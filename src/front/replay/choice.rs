//! Which deliveries of a message a job takes up. Pure.

use crate::delivery::{CancelReason, Delivery, DeliveryId, Lane, State};
use crate::endpoint::Endpoint;
use crate::fanout;
use crate::id::EndpointId;
use crate::message::Message;
use crate::store::{Replay, Walked};

use super::job::{ReplayFilter, ReplayWhat, Why};

/// A delivery that a job is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    /// Its place in the message's routing, by which a job that stops in the middle of a message goes on. A routing only
    /// grows at its end.
    pub(super) place: usize,
    pub(super) take: Result<Replay, Why>,
}

/// What a job does with a message: one choice a delivery that it is about, in the order of the routing. Where all goes to
/// one endpoint (`to`, or where it is missing), that gets the message once. `source` is the filter's endpoint.
pub(super) fn choices(
    filter: &ReplayFilter,
    source: Option<&Endpoint>,
    to: Option<EndpointId>,
    Walked { message, deliveries }: &Walked,
) -> Vec<Choice> {
    let application = message.application;
    let at = |endpoint| DeliveryId { lane: Lane { application, endpoint }, message: message.id };
    let missing = || source.filter(|source| is_missing(source, message, deliveries)).map(|source| source.id);
    let of_endpoint = |delivery: &Delivery| filter.endpoint.is_none_or(|wanted| wanted == delivery.id.lane.endpoint);
    let fits = |delivery: &Delivery| of_endpoint(delivery) && is_about(filter.what, delivery.state);

    let once = match (filter.what, to) {
        (ReplayWhat::Missing, to) => missing().map(|endpoint| to.unwrap_or(endpoint)),
        (
            ReplayWhat::Failed | ReplayWhat::Dead | ReplayWhat::Canceled | ReplayWhat::Delivered | ReplayWhat::All,
            Some(to),
        ) => deliveries.iter().any(fits).then_some(to),
        (
            ReplayWhat::Failed | ReplayWhat::Dead | ReplayWhat::Canceled | ReplayWhat::Delivered | ReplayWhat::All,
            None,
        ) => {
            let each = deliveries.iter().enumerate().filter(|(_, delivery)| fits(delivery));
            return each
                .map(|(place, delivery)| Choice {
                    place,
                    take: take(message, delivery.id, Some(delivery.state), false),
                })
                .collect();
        }
    };
    let choice = |endpoint| {
        let there = deliveries.iter().find(|delivery| delivery.id.lane.endpoint == endpoint);
        Choice { place: 0, take: take(message, at(endpoint), there.map(|delivery| delivery.state), true) }
    };
    once.map(choice).into_iter().collect()
}

/// Whether a delivery that stands so is one of those that are asked for.
fn is_about(what: ReplayWhat, state: State) -> bool {
    match what {
        ReplayWhat::All => true,
        ReplayWhat::Dead => matches!(state, State::Dead { .. }),
        ReplayWhat::Canceled => matches!(state, State::Canceled { .. }),
        ReplayWhat::Delivered => matches!(state, State::Delivered { .. }),
        ReplayWhat::Failed => match state {
            State::Dead { .. } => true,
            State::Canceled { reason, .. } => reason == CancelReason::EndpointDisabled,
            State::Waiting { .. } | State::Held { .. } | State::Leased { .. } | State::Delivered { .. } => false,
        },
        // Those are not there.
        ReplayWhat::Missing => false,
    }
}

fn is_missing(source: &Endpoint, message: &Message, deliveries: &[Delivery]) -> bool {
    !message.test
        && fanout::takes(source, &message.event_type, &message.channels)
        && deliveries.iter().all(|delivery| delivery.id.lane.endpoint != source.id)
}

fn take(message: &Message, delivery: DeliveryId, state: Option<State>, add: bool) -> Result<Replay, Why> {
    if message.expunged {
        return Err(Why::Expunged);
    }
    match state {
        Some(State::Waiting { .. } | State::Held { .. } | State::Leased { .. }) => Err(Why::UnderWay),
        Some(State::Delivered { .. } | State::Dead { .. } | State::Canceled { .. }) | None => {
            Ok(Replay { delivery, add })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::delivery::{DeadReason, Progress};
    use crate::endpoint::{EndpointSettings, EndpointStatus};
    use crate::id::{ApplicationId, MessageId};
    use crate::message::Routing;
    use crate::testing;
    use crate::time::Timestamp;

    const AT: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const WAITING: State = State::Waiting { due: AT };
    const LEASED: State = State::Leased { until: AT };
    const DELIVERED: State = State::Delivered { at: AT };
    const DEAD: State = State::Dead { at: AT, reason: DeadReason::Exhausted };
    const DISABLED: State = State::Canceled { at: AT, reason: CancelReason::EndpointDisabled };
    const CANCELED: State = State::Canceled { at: AT, reason: CancelReason::Requested };

    fn endpoint(number: u128) -> EndpointId {
        EndpointId::from_parts(AT, number)
    }

    fn walked(states: &[State]) -> Walked {
        let application = ApplicationId::from_parts(AT, 1);
        let id = MessageId::from_parts(AT, 1);
        let to: Vec<_> = (0..states.len()).map(|number| endpoint(number as u128)).collect();
        let deliveries = states.iter().zip(&to).map(|(state, endpoint)| Delivery {
            id: DeliveryId { lane: Lane { application, endpoint: *endpoint }, message: id },
            state: *state,
            progress: Progress::new(AT),
        });
        let deliveries = deliveries.collect();
        Walked { message: Arc::new(testing::message(application, id, AT, "", Routing::To(to))), deliveries }
    }

    fn filter(what: ReplayWhat) -> ReplayFilter {
        ReplayFilter { what, ..ReplayFilter::default() }
    }

    /// The places that are taken up, and those that are skipped because they are under way.
    fn places(choices: &[Choice]) -> (Vec<usize>, Vec<usize>) {
        let (taken, left): (Vec<Choice>, Vec<Choice>) = choices.iter().partition(|choice| choice.take.is_ok());
        assert!(left.iter().all(|choice| choice.take == Err(Why::UnderWay)), "{choices:?}");
        (taken.into_iter().map(|one| one.place).collect(), left.into_iter().map(|one| one.place).collect())
    }

    #[test]
    fn each_what_is_about_its_states() {
        let walked = walked(&[WAITING, LEASED, DELIVERED, DEAD, DISABLED, CANCELED]);
        for (what, taken, left) in [
            (ReplayWhat::Failed, vec![3, 4], vec![]),
            (ReplayWhat::Dead, vec![3], vec![]),
            (ReplayWhat::Canceled, vec![4, 5], vec![]),
            (ReplayWhat::Delivered, vec![2], vec![]),
            (ReplayWhat::All, vec![2, 3, 4, 5], vec![0, 1]),
        ] {
            assert_eq!(places(&choices(&filter(what), None, None, &walked)), (taken, left), "{what:?}");
        }
        let of_one = ReplayFilter { endpoint: Some(endpoint(3)), ..filter(ReplayWhat::All) };
        assert_eq!(places(&choices(&of_one, None, None, &walked)), (vec![3], vec![]));
    }

    #[test]
    fn another_endpoint_gets_a_message_once_and_not_while_it_has_it_under_way() {
        let take =
            |states: &[State], to| choices(&filter(ReplayWhat::Failed), None, Some(endpoint(to)), &walked(states));
        let [choice] = take(&[DEAD, DEAD], 9)[..] else { panic!("once") };
        let replay = choice.take.unwrap();
        assert_eq!((replay.delivery.lane.endpoint, replay.add), (endpoint(9), true));
        assert_eq!(take(&[DEAD, DELIVERED], 1).len(), 1, "it had it before");
        assert_eq!(take(&[DEAD, WAITING], 1)[0].take, Err(Why::UnderWay));
        assert!(take(&[DELIVERED, CANCELED], 9).is_empty(), "nothing of it failed");
    }

    #[test]
    fn what_is_missing_is_what_the_filters_take_and_the_endpoint_never_had() {
        let mut source = Endpoint {
            id: endpoint(1),
            application: ApplicationId::from_parts(AT, 1),
            settings: EndpointSettings::at("https://a.example/"),
            keys: Vec::new(),
            status: EndpointStatus::Enabled,
            created_at: AT,
            updated_at: AT,
        };
        let what = ReplayFilter { endpoint: Some(source.id), ..filter(ReplayWhat::Missing) };
        let taken = |source: &Endpoint, to, walked: &Walked| {
            let taken = choices(&what, Some(source), to, walked);
            taken.first().map(|choice| choice.take.unwrap().delivery.lane.endpoint)
        };
        assert_eq!(taken(&source, None, &walked(&[DELIVERED])), Some(source.id));
        assert_eq!(taken(&source, Some(endpoint(7)), &walked(&[DELIVERED])), Some(endpoint(7)));
        for state in [WAITING, DELIVERED, DEAD, DISABLED] {
            assert_eq!(taken(&source, None, &walked(&[DELIVERED, state])), None, "it had one: {state:?}");
        }
        let mut test = walked(&[DELIVERED]);
        Arc::make_mut(&mut test.message).test = true;
        assert_eq!(taken(&source, None, &test), None, "it was for somebody else");
        source.settings.event_types = vec!["other.*".into()];
        assert_eq!(taken(&source, None, &walked(&[DELIVERED])), None);
    }

    #[test]
    fn what_is_expunged_is_skipped_and_said_so() {
        let mut walked = walked(&[DEAD, WAITING]);
        Arc::make_mut(&mut walked.message).expunged = true;
        let all = choices(&filter(ReplayWhat::All), None, None, &walked);
        assert_eq!(all.iter().map(|choice| choice.take).collect::<Vec<_>>(), [Err(Why::Expunged); 2]);
    }
}
