//! Building a request body from a message's payload, without parsing or re-serialising it.

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::invalid::Invalid;
use crate::profile::{BodyMode, Envelope, Profile};
use crate::time::Timestamp;

/// How deep a JSON payload nests at most: receivers' parsers have limits, and some have none and overflow their stack.
const MAX_DEPTH: usize = 128;

/// What one look at a payload's bytes showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Not JSON: sent as it is, as `application/octet-stream`.
    NotJson,
    /// A JSON value that is not an object.
    Value,
    /// A JSON object, and which of the watched names it has as members.
    Object { has: Vec<String> },
}

impl Shape {
    /// Looks at a payload, once. `watched` are the names that superset bodies would add (usually none).
    pub(crate) fn of(payload: &[u8], watched: &[&str]) -> Shape {
        let Ok(text) = std::str::from_utf8(payload) else { return Shape::NotJson };
        let mut reader = serde_json::Deserializer::from_str(text);
        match reader.deserialize_any(ShapeOf { watched }).and_then(|shape| reader.end().map(|()| shape)) {
            Ok(shape) => shape,
            Err(_) => Shape::NotJson,
        }
    }

    /// Whether it is JSON of any kind.
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Shape::NotJson => false,
            Shape::Value | Shape::Object { .. } => true,
        }
    }
}

/// The names that a profile's superset body adds; none in the other modes.
pub(crate) fn added_names(profile: &Profile) -> [Option<&str>; 3] {
    let Envelope { event_type, timestamp, data } = &profile.envelope;
    match profile.body {
        BodyMode::Superset => [Some(event_type), Some(timestamp), Some(data)],
        BodyMode::Envelope | BodyMode::AsGiven => [None; 3],
    }
}

struct ShapeOf<'w> {
    watched: &'w [&'w str],
}

impl<'de> Visitor<'de> for ShapeOf<'_> {
    type Value = Shape;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut has = Vec::new();
        if self.watched.is_empty() {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        } else {
            while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                if self.watched.contains(&name.as_str()) && !has.contains(&name) {
                    has.push(name);
                }
            }
        }
        Ok(Shape::Object { has })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Shape::Value)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Value)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Value)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Value)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Value)
    }
    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Value)
    }
    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Value)
    }
}

/// Checks that a payload, if it is JSON, is nested no deeper than 128 levels.
pub(crate) fn check_depth(payload: &[u8], shape: &Shape) -> Result<(), Invalid> {
    match shape.is_json() && nests_deeper_than(MAX_DEPTH, payload) {
        true => Err(Invalid::new("payload", format!("is nested deeper than {MAX_DEPTH} levels"))),
        false => Ok(()),
    }
}

/// Whether JSON has more objects and arrays within one another than this. One pass; `json` was parsed before.
fn nests_deeper_than(most: usize, json: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    false
}

/// Goes behind a string's end.
fn skip_string<'b>(bytes: &mut impl Iterator<Item = &'b u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            // What is escaped ends nothing.
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

/// Checks that a payload can be sent in this profile's body mode.
pub(crate) fn check(profile: &Profile, shape: &Shape) -> Result<(), Invalid> {
    let problem = match (profile.body, shape) {
        (BodyMode::AsGiven, _) => return Ok(()),
        (BodyMode::Envelope, Shape::Value | Shape::Object { .. }) => return Ok(()),
        (BodyMode::Envelope | BodyMode::Superset, Shape::NotJson) => "is not JSON, and the profile wraps it".into(),
        (BodyMode::Superset, Shape::Value) => "must be a JSON object for a superset body".into(),
        (BodyMode::Superset, Shape::Object { has }) => {
            match added_names(profile).into_iter().flatten().find(|name| has.iter().any(|h| h == name)) {
                None => return Ok(()),
                Some(name) => format!("has a member `{name}`, which a superset body adds itself"),
            }
        }
    };
    Err(Invalid::new("payload", format!("{problem} (profile {})", profile.name)))
}

/// The body's bytes. The payload has passed [`check`]; it stands in the body unchanged.
pub(crate) fn build(profile: &Profile, event_type: &str, time: Timestamp, payload: &Bytes) -> Bytes {
    let Envelope { event_type: type_name, timestamp, data } = &profile.envelope;
    let members = |body: &mut Vec<u8>| {
        for (name, value) in [(type_name, event_type), (timestamp, &time.to_string())] {
            put_string(body, name);
            body.push(b':');
            put_string(body, value);
            body.push(b',');
        }
        put_string(body, data);
        body.push(b':');
        body.extend_from_slice(payload);
    };
    match profile.body {
        BodyMode::AsGiven => payload.clone(),
        BodyMode::Envelope => {
            let mut body = Vec::with_capacity(payload.len() + 128);
            body.push(b'{');
            members(&mut body);
            body.push(b'}');
            body.into()
        }
        BodyMode::Superset => {
            let flat = payload.trim_ascii();
            let inner = flat.get(1..flat.len().saturating_sub(1)).unwrap_or_default();
            let mut body = Vec::with_capacity(payload.len() * 2 + 128);
            body.push(b'{');
            if !inner.trim_ascii().is_empty() {
                body.extend_from_slice(inner);
                body.push(b',');
            }
            members(&mut body);
            body.push(b'}');
            body.into()
        }
    }
}

fn put_string(body: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(body, text).expect("a string is written to memory without an error");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(body: BodyMode) -> Profile {
        Profile { body, ..Profile::builtin("levers").unwrap() }
    }

    fn built(body: BodyMode, payload: &'static str) -> String {
        let bytes =
            build(&with(body), "phone_call.ended", Timestamp::from_millis(0), &Bytes::from_static(payload.as_bytes()));
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn each_mode_keeps_the_payloads_bytes() {
        let payload = r#"{ "minutes": 3.0, "n":1e2 }"#;
        assert_eq!(built(BodyMode::AsGiven, payload), payload);
        assert_eq!(
            built(BodyMode::Envelope, payload),
            r#"{"type":"phone_call.ended","timestamp":"1970-01-01T00:00:00Z","data":{ "minutes": 3.0, "n":1e2 }}"#
        );
        let superset = built(BodyMode::Superset, payload);
        let value: serde_json::Value = serde_json::from_str(&superset).unwrap();
        assert_eq!(value["minutes"], 3.0);
        assert_eq!(value["type"], "phone_call.ended");
        assert!(superset.ends_with(r#""data":{ "minutes": 3.0, "n":1e2 }}"#), "{superset}");
        assert!(serde_json::from_str::<serde_json::Value>(&built(BodyMode::Superset, " { } ")).is_ok());
    }

    #[test]
    fn a_payload_that_cannot_be_wrapped_is_refused_by_name() {
        let cases: [(BodyMode, &[u8]); 5] = [
            (BodyMode::Envelope, b"call ended"),
            (BodyMode::Envelope, b"{\"a\":\"\xff\"}"),
            (BodyMode::Envelope, b"{} {}"),
            (BodyMode::Superset, b"[1]"),
            (BodyMode::Superset, br#"{"\u0074ype":1}"#),
        ];
        for (mode, payload) in cases {
            let error = check(&with(mode), &Shape::of(payload, &["type", "data"])).unwrap_err();
            assert_eq!(error.field(), "payload");
        }
        assert!(check(&with(BodyMode::AsGiven), &Shape::of(b"call ended", &[])).is_ok());
    }

    #[test]
    fn deep_nesting_is_looked_at_without_a_stack_overflow() {
        let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
        let _ = Shape::of(deep.as_bytes(), &[]);
    }

    #[test]
    fn json_nests_up_to_128_levels() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let checked = |payload: &str| check_depth(payload.as_bytes(), &Shape::of(payload.as_bytes(), &[]));
        assert_eq!(checked(&nested(128)), Ok(()));
        assert_eq!(checked(&nested(129)).unwrap_err().field(), "payload");
        assert!(checked(&nested(1_000_000)).is_err());
        let objects = format!("{}1{}", r#"{"a":[0,"#.repeat(65), "]}".repeat(65));
        assert!(checked(&objects).is_err());
        assert_eq!(checked(&"[".repeat(200)), Ok(()), "what is no JSON has no levels");
        assert_eq!(checked(&format!(r#"["{}\"{}\\"]"#, "[".repeat(200), "{".repeat(200))), Ok(()), "nor has a string");
        assert_eq!(checked(&format!("[{}0]", "[[]],".repeat(500))), Ok(()), "nor do neighbours add up");
    }

    /// Objects and arrays within one another.
    fn levels(value: &serde_json::Value) -> usize {
        match value {
            serde_json::Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or_default(),
            serde_json::Value::Object(members) => 1 + members.values().map(levels).max().unwrap_or_default(),
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::String(_) => 0,
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let text = || "[\\[\\]{}\"\\\\a\\n\u{0}é]{0,12}";
        let leaf = prop_oneof![any::<i64>().prop_map(Into::into), text().prop_map(serde_json::Value::from)];
        leaf.prop_recursive(12, 64, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::vec((text(), inner), 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_levels_are_those_that_a_full_parse_finds(value in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let levels = levels(&value);
            prop_assert!(!nests_deeper_than(levels, text.as_bytes()), "{} {}", levels, text);
            prop_assert!(levels == 0 || nests_deeper_than(levels - 1, text.as_bytes()), "{} {}", levels, text);
        }

        #[test]
        fn the_shape_agrees_with_a_full_parse(payload in "[\\[\\]{}:,\"a-c0-9. ]{0,24}") {
            let full = serde_json::from_str::<serde_json::Value>(&payload);
            match Shape::of(payload.as_bytes(), &["a"]) {
                Shape::NotJson => prop_assert!(full.is_err()),
                Shape::Value => prop_assert!(!full.unwrap().is_object()),
                Shape::Object { .. } => prop_assert!(full.unwrap().is_object()),
            }
        }
    }
}
