//! Pages of lists: a limit, an opaque iterator that can turn round, and an order.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;

const DEFAULT: usize = 50;
/// The most items of a page.
pub(super) const MOST: usize = 250;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListResponse<T> {
    /// The items.
    pub(super) data: Vec<T>,
    /// Give it as `iterator` to get the following page.
    pub(super) iterator: Option<String>,
    /// Give it as `iterator` to get the page before this one.
    pub(super) prev_iterator: Option<String>,
    /// Whether there is nothing beyond this page.
    pub(super) done: bool,
}

/// In which order a list is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Ordering {
    /// Oldest (or by name) first.
    Ascending,
    /// Newest first.
    Descending,
}

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// How many items at most: 1 to 250. Default: 50.
    pub(super) limit: Option<usize>,
    /// From the page before.
    pub(super) iterator: Option<String>,
    /// Default: ascending.
    #[param(inline)]
    pub(super) order: Option<Ordering>,
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start<C> {
    /// At the list's start.
    Beginning,
    /// Behind this item.
    After(C),
    /// With as many as fit in front of this item.
    Before(C),
}

pub(super) fn limit(given: Option<usize>) -> Result<usize, Problem> {
    match given {
        None => Ok(DEFAULT),
        Some(limit) if (1..=MOST).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::invalid("query", "limit", "must be between 1 and 250")),
    }
}

/// Whether a text is an id of this kind, as it is written.
pub(super) fn is_id<I: FromStr + ToString>(text: &str) -> bool {
    text.parse::<I>().is_ok_and(|id| id.to_string() == text)
}

/// Reads an iterator; `read` makes a cursor of its text.
pub(super) fn start<C>(iterator: Option<&str>, read: impl Fn(&str) -> Option<C>) -> Result<Start<C>, Problem> {
    let Some(iterator) = iterator else { return Ok(Start::Beginning) };
    let cursor = match iterator.strip_prefix('-') {
        Some(text) => read(text).map(Start::Before),
        None => read(iterator).map(Start::After),
    };
    cursor.ok_or_else(|| Problem::invalid("query", "iterator", "must be one from a page of this list"))
}

impl<T> ListResponse<T> {
    /// A page of these items; `cursor` is an item's place in the list, as a text.
    pub(super) fn of<S>(items: Vec<S>, done: bool, cursor: impl Fn(&S) -> String, show: impl Fn(S) -> T) -> Self {
        ListResponse {
            iterator: items.last().map(&cursor),
            prev_iterator: items.first().map(|item| format!("-{}", cursor(item))),
            data: items.into_iter().map(show).collect(),
            done,
        }
    }

    /// A page of a list that is at hand as a whole, in ascending order of its cursors. `is_cursor` tells the texts that
    /// could be one of them.
    ///
    /// # Errors
    /// The limit or the iterator cannot be taken.
    pub(super) fn cut<S>(
        mut all: Vec<S>,
        query: &ListQuery,
        is_cursor: impl Fn(&str) -> bool,
        cursor: impl Fn(&S) -> String,
        show: impl Fn(S) -> T,
    ) -> Result<Self, Problem> {
        let limit = limit(query.limit)?;
        let descending = query.order == Some(Ordering::Descending);
        if descending {
            all.reverse();
        }
        let in_front = |item: &S, place: &str| if descending { *cursor(item) > *place } else { *cursor(item) < *place };
        let (page, done) = match start(query.iterator.as_deref(), |text| is_cursor(text).then(|| text.to_owned()))? {
            Start::Beginning => {
                let done = all.len() <= limit;
                all.truncate(limit);
                (all, done)
            }
            Start::After(place) => {
                let rest: Vec<S> =
                    all.into_iter().filter(|item| !in_front(item, &place) && cursor(item) != place).collect();
                let done = rest.len() <= limit;
                (rest.into_iter().take(limit).collect(), done)
            }
            Start::Before(place) => {
                let mut front: Vec<S> = all.into_iter().filter(|item| in_front(item, &place)).collect();
                let more = front.len().saturating_sub(limit);
                (front.split_off(more), more == 0)
            }
        };
        Ok(ListResponse::of(page, done, cursor, show))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(limit: usize, iterator: Option<&str>, order: Ordering) -> ListResponse<String> {
        let all: Vec<String> = "abcdefg".chars().map(String::from).collect();
        let query = ListQuery { limit: Some(limit), iterator: iterator.map(str::to_owned), order: Some(order) };
        ListResponse::cut(all, &query, |_| true, Clone::clone, |item| item).unwrap()
    }

    #[test]
    fn pages_follow_one_another_and_turn_round() {
        for (order, letters) in [(Ordering::Ascending, "abcdefg"), (Ordering::Descending, "gfedcba")] {
            let first = cut(3, None, order);
            assert_eq!((first.data.concat(), first.done), (letters[..3].to_owned(), false));
            let second = cut(3, first.iterator.as_deref(), order);
            assert_eq!((second.data.concat(), second.done), (letters[3..6].to_owned(), false));
            let third = cut(3, second.iterator.as_deref(), order);
            assert_eq!((third.data.concat(), third.done), (letters[6..].to_owned(), true));
            let back = cut(2, third.prev_iterator.as_deref(), order);
            assert_eq!((back.data.concat(), back.done), (letters[4..6].to_owned(), false));
            let start = cut(5, back.prev_iterator.as_deref(), order);
            assert_eq!((start.data.concat(), start.done), (letters[..4].to_owned(), true));
        }
    }

    #[test]
    fn an_empty_page_is_the_end() {
        let none = cut(3, Some("g"), Ordering::Ascending);
        assert!(none.data.is_empty() && none.done && none.iterator.is_none() && none.prev_iterator.is_none());
    }
}
