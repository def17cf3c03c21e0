//! Enumerations of vendors' documents, kept open: a value that the document does not name survives the way in and out.
//!
//! Invariant: the text form is the document's spelling, and reading what was written gives the same value.

/// Declares an enumeration of texts with a last variant `Other` for every text that has no variant of its own.
macro_rules! open_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        $vis enum $name {
            $($(#[$variant_meta])* $variant,)+
            /// A value that the page does not name, in its own spelling.
            Other(String),
        }

        impl $name {
            /// The vendor's spelling.
            $vis fn as_str(&self) -> &str {
                match self {
                    $($name::$variant => $text,)+
                    $name::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $($text => $name::$variant,)+
                    other => $name::Other(other.to_owned()),
                }
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                $name::from(text.as_str())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer).map($name::from)
            }
        }
    };
}

pub(crate) use open_enum;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    open_enum! {
        /// An example.
        enum Answer {
            /// Agreed.
            Yes = "YES",
            /// Refused.
            NotNow = "NOT NOW",
        }
    }

    #[test]
    fn named_values_are_written_as_the_document_spells_them() {
        for (answer, json) in [(Answer::Yes, r#""YES""#), (Answer::NotNow, r#""NOT NOW""#)] {
            assert_eq!(serde_json::to_string(&answer).unwrap(), json);
            assert_eq!(serde_json::from_str::<Answer>(json).unwrap(), answer);
        }
        // Another spelling is another value: nothing is guessed.
        assert_eq!(Answer::from("yes"), Answer::Other("yes".into()));
    }

    proptest! {
        #[test]
        fn any_text_survives_the_way_in_and_out(text in ".*") {
            let json = serde_json::to_string(&text).unwrap();
            let answer: Answer = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(serde_json::to_string(&answer).unwrap(), json);
        }
    }
}
