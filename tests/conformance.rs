//! The store's promises: one suite, run over every store.
//!
//! Each topic of `tests/conformance/` is a list of promises, tests of the contract in `src/store/mod.rs`;
//! `model.rs` compares a store with the memory store over random commands. To add a store, write its
//! `Subject` in `subject.rs` and one line at the end of this file.

#![allow(clippy::unwrap_used, reason = "all of it is a test")]

#[path = "conformance/subject.rs"]
mod subject;
#[path = "conformance/world.rs"]
mod world;

#[path = "conformance/cancel.rs"]
mod cancel;
#[path = "conformance/claim.rs"]
mod claim;
#[path = "conformance/count.rs"]
mod count;
#[path = "conformance/enqueue.rs"]
mod enqueue;
#[path = "conformance/erase.rs"]
mod erase;
#[path = "conformance/expunge.rs"]
mod expunge;
#[path = "conformance/life.rs"]
mod life;
#[path = "conformance/model.rs"]
mod model;
#[path = "conformance/order.rs"]
mod order;
#[path = "conformance/query.rs"]
mod query;
#[path = "conformance/record.rs"]
mod record;
#[path = "conformance/replay.rs"]
mod replay;
#[path = "conformance/retention.rs"]
mod retention;
#[path = "conformance/room.rs"]
mod room;
#[path = "conformance/settle.rs"]
mod settle;
#[path = "conformance/walk.rs"]
mod walk;

macro_rules! tests {
    ($store:ident, $subject:expr; $($topic:ident { $($promise:ident)* })*) => {
        mod $store {
            $(mod $topic {
                use crate::subject::*;
                $(#[tokio::test]
                async fn $promise() {
                    crate::$topic::$promise(crate::world::World::open(Box::new($subject)).await).await;
                })*
            })*

            #[test]
            fn it_answers_as_the_model_does() {
                use crate::subject::*;
                crate::model::compare(|| Box::new($subject));
            }
        }
    };
}

/// Every promise, for a store. One that is missing here is dead code.
macro_rules! conformance {
    ($store:ident: $subject:expr) => {
        tests! { $store, $subject;
            enqueue {
                a_message_is_stored_with_a_delivery_for_each_endpoint
                a_message_that_goes_nowhere_is_stored_with_its_reason
                every_field_of_a_message_reads_back
                any_payload_reads_back_byte_for_byte
                an_event_id_is_unique_while_its_message_lives
                a_repeated_idempotency_key_is_answered_with_the_first_message
                other_content_under_an_idempotency_key_is_a_conflict
                an_idempotency_key_that_expired_may_be_used_anew
                an_endpoint_list_that_moved_makes_a_message_stale
                of_several_reasons_to_refuse_the_first_is_answered
                a_refused_message_leaves_nothing
                a_batch_sees_its_earlier_messages
                applications_share_neither_event_ids_nor_idempotency_keys
                concurrent_sends_are_all_stored
            }
            room {
                a_message_beyond_its_application_s_room_is_refused_alone
                what_ends_makes_room_again
                replays_are_taken_up_beyond_the_room
                what_adds_nothing_has_room_and_other_reasons_come_first
            }
            claim {
                nothing_is_claimed_before_it_is_due
                a_scheduled_message_is_due_when_it_says_and_its_round_opens_then
                a_lane_is_claimed_in_the_order_of_due_times_and_then_of_storing
                no_more_is_claimed_than_was_asked_for
                a_leased_delivery_is_not_claimed_again
                a_lost_lease_is_claimed_again_and_the_old_one_settles_nothing
                a_lost_lease_keeps_its_place
                a_lease_that_ran_out_settles_until_it_is_claimed_again
                a_closed_lane_gives_no_lease
                an_attempt_in_flight_settles_although_its_lane_closed
                due_lanes_are_found_in_order_and_by_pages
                the_next_due_time_is_the_next_retry_or_the_end_of_a_lease
                a_long_backlog_is_claimed_completely_and_once
                a_long_backlog_hides_no_other_lane
            }
            settle {
                a_settlement_stores_the_attempt_and_the_state
                every_field_of_an_attempt_reads_back
                every_outcome_and_result_reads_back
                a_retry_is_claimed_when_it_is_due_with_its_progress
                a_lease_that_is_given_back_untried_keeps_its_progress
                each_way_to_end_ends_the_delivery
                a_lease_settles_once
                a_batch_is_answered_in_its_order
                a_large_batch_settles_completely
            }
            order {
                of_one_key_one_goes_first_and_others_flow
                those_behind_wait_for_each_retry_and_follow_each_way_to_end
                a_held_delivery_is_canceled_without_a_trace_in_the_order
                a_lane_is_canceled_with_what_is_held_first_up_to_the_limit
                a_settlement_can_let_others_pass
                what_is_replayed_takes_its_place_in_the_order
                a_batch_of_replays_keeps_the_order_of_a_key
                what_is_held_and_due_later_waits_until_then
                the_order_outlives_restarts_and_lost_leases
                requests_of_one_write_see_each_other_s_order
                a_long_order_is_gone_through_completely
                retention_keeps_what_is_held
                a_batch_that_is_canceled_lets_none_of_itself_follow
            }
            replay {
                a_replay_opens_a_round_of_what_has_ended
                a_replay_hastens_what_waits
                what_is_hastened_as_it_becomes_due_is_claimed_once
                a_replay_leaves_an_attempt_in_flight_alone
                a_replay_hastens_what_was_lost
                a_replay_of_what_is_not_there_finds_nothing
                a_replay_and_its_record_are_one_write
                a_replayed_delivery_of_a_closed_lane_waits_until_it_opens
                a_batch_of_replays_is_answered_in_its_order
                a_message_is_given_a_delivery_where_it_had_none
                an_added_delivery_is_canceled_expunged_and_kept_as_any_other
                a_batch_adds_several_deliveries_of_large_messages
                a_record_goes_along_only_if_all_of_the_batch_is_taken_up
            }
            cancel {
                a_lane_is_canceled_in_order_up_to_the_limit
                a_waiting_delivery_is_canceled
                an_attempt_in_flight_is_not_canceled
                what_has_ended_is_not_canceled
                a_closed_lane_can_be_canceled
                a_delivery_is_canceled_or_claimed_and_never_both
                a_lease_that_ran_out_in_a_closed_lane_is_canceled
            }
            expunge {
                an_expunged_payload_is_gone_and_all_else_of_the_message_stays
                only_what_is_there_is_expunged
                what_waits_is_claimed_without_the_payload
                the_counts_stay_as_the_message_was_sent
                an_expunged_response_has_no_body_and_the_attempt_stays
                an_attempt_is_found_by_its_id
                what_is_of_an_expunged_message_is_not_replayed
                a_message_is_expunged_while_others_are_sent
            }
            erase {
                an_erased_message_leaves_nothing
                what_is_being_attempted_is_erased_once_that_has_ended
                what_an_erased_message_held_goes_on
                the_rest_of_an_application_goes_and_no_other_s
            }
            retention {
                retention_keeps_what_has_not_ended
                retention_removes_what_was_delivered_before_its_time
                retention_removes_what_failed_before_its_own_time
                retention_keeps_a_message_while_its_idempotency_key_lives
                retention_forgets_no_idempotency_key_of_another_message
                retention_leaves_nothing_of_a_message
                retention_walks_all_applications_by_pages
                payloads_go_before_their_message_once_it_has_ended
                attempts_go_before_their_message_and_the_numbers_go_on
                a_payload_goes_at_once_where_all_of_its_deliveries_succeeded
                exceptions_hold_for_their_application_and_event_type
            }
            query {
                messages_are_listed_in_each_order_and_completely
                a_page_of_large_payloads_ends_early_and_leads_on
                messages_are_found_by_each_filter
                messages_are_found_by_type_channel_and_endpoint
                messages_are_found_by_ordering_key_and_tag
                attempts_are_listed_in_each_order_and_completely
                attempts_are_found_by_each_filter
                attempts_are_found_by_type_and_channel_of_their_messages
                dead_letters_are_listed_completely_by_endpoint_and_message
                dead_letters_are_found_by_endpoint_and_time
                only_what_is_dead_is_a_dead_letter
                deliveries_come_in_the_order_of_the_routing_and_show_leases
                limits_are_clamped
                what_is_unknown_is_not_found
            }
            walk {
                a_walk_shows_how_deliveries_stand_and_no_payload
                a_walk_looks_at_no_more_than_its_limit_whatever_fits
                a_walk_keeps_to_its_window_and_filters
                a_walk_s_limit_is_clamped
            }
            count {
                each_delivery_is_counted_once_in_the_state_that_it_is_in
                what_is_counted_can_be_narrowed_to_an_endpoint_and_a_window
                more_than_a_store_looks_at_at_once_is_counted
                the_counts_add_up_while_everything_moves
            }
            record {
                a_record_is_made_changed_and_removed_by_version
                a_put_changes_all_or_nothing
                a_put_sees_its_earlier_changes
                a_record_made_again_starts_at_version_one
                records_are_listed_in_the_order_of_their_keys
                kinds_and_applications_have_their_own_records
                keys_and_values_read_back_byte_for_byte
                of_concurrent_changes_one_wins
            }
            life {
                the_counts_add_up
                everything_reads_back_after_a_reopen
                after_a_reopen_what_had_not_ended_waits_as_it_was_settled
                after_a_reopen_no_lease_of_before_settles
                refusals_hold_after_a_reopen
                the_latest_time_is_that_of_the_last_write
                the_bell_rings_when_something_may_be_claimable
                after_close_every_call_answers_closed
            }
        }
    };
}

conformance!(memory: Memory::default());
#[cfg(feature = "sled")]
conformance!(sled: Sled::default());
