//! The operator's own profiles, by name: where an endpoint names one, it is stored written out.

use std::collections::BTreeMap;

use ringback::{Profile, ProfileChoice};

/// Writes out a choice that names one of the operator's own profiles. Others stay as they are.
pub(crate) fn resolve(choice: ProfileChoice, own: &BTreeMap<String, Profile>) -> ProfileChoice {
    match choice {
        ProfileChoice::Named(name) => match own.get(&name) {
            Some(profile) => profile.clone().into(),
            None => ProfileChoice::Named(name),
        },
        written_out @ ProfileChoice::Custom(_) => written_out,
    }
}

/// What a stored choice should be now: the operator's profile of its name, if that was changed since.
pub(crate) fn changed<'p>(stored: &ProfileChoice, own: &'p BTreeMap<String, Profile>) -> Option<&'p Profile> {
    match stored {
        ProfileChoice::Named(_) => None,
        ProfileChoice::Custom(stored) => own.get(&stored.name).filter(|profile| *profile != &**stored),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> BTreeMap<String, Profile> {
        let profile = Profile { name: "acme".into(), ..Profile::builtin("svix").unwrap() };
        [("acme".to_owned(), profile)].into()
    }

    #[test]
    fn only_a_name_of_the_operators_is_written_out() {
        let own = own();
        assert_eq!(resolve("acme".into(), &own), own["acme"].clone().into());
        assert_eq!(resolve("levrage".into(), &own), "levrage".into());
        assert_eq!(resolve("unknown".into(), &own), "unknown".into());
    }

    #[test]
    fn a_stored_profile_changes_only_if_the_operators_of_its_name_differs() {
        let own = own();
        let older = Profile { timeout_ms: 1, ..own["acme"].clone() };
        let other = Profile { name: "globex".into(), ..older.clone() };
        assert_eq!(changed(&older.into(), &own), Some(&own["acme"]));
        assert_eq!(changed(&own["acme"].clone().into(), &own), None);
        assert_eq!(changed(&other.into(), &own), None);
        assert_eq!(changed(&"acme".into(), &own), None);
    }
}
