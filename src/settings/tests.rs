//! What the stages of the settings hold.

use std::time::Duration;

use ringback::{Config, ProfileChoice};
use serde_json::json;

use super::*;

fn flags(given: &[(Key, &str)]) -> Flags {
    let given = given.iter().map(|(key, value)| (*key, vec![(*value).to_owned()])).collect();
    Flags { config: None, given }
}

fn read(toml: &str, environment: &[(&str, &str)], given: &[(Key, &str)]) -> Result<Settings, Error> {
    let file = File::of("x.toml", toml);
    Settings::from_sources(Some(&file), &environment.iter().copied().collect(), &flags(given))
}

fn complaint(toml: &str) -> String {
    read(toml, &[], &[]).expect_err(toml).to_string()
}

fn source(settings: &Settings, key: &str) -> String {
    let setting = &settings.as_json()["settings"][key];
    setting["from"].as_str().map_or_else(|| setting["source"].to_string(), str::to_owned)
}

#[test]
fn without_any_setting_the_defaults_are_those_of_the_library() {
    let settings = Settings::from_sources(None, &Environment::default(), &Flags::default()).unwrap();
    let (ours, library) = (&settings.config, Config::default());
    assert_eq!(ours.path.file_name(), library.path.file_name());
    assert_eq!(ours.egress, library.egress);
    assert_eq!(
        (ours.max_payload, ours.max_endpoints, ours.max_in_flight, ours.max_in_flight_per_endpoint),
        (library.max_payload, library.max_endpoints, library.max_in_flight, library.max_in_flight_per_endpoint)
    );
    assert_eq!(
        (ours.max_in_flight_per_origin, ours.max_open_bytes, ours.max_kept_bytes, ours.min_free_bytes),
        (library.max_in_flight_per_origin, library.max_open_bytes, library.max_kept_bytes, library.min_free_bytes)
    );
    assert_eq!(
        (ours.max_in_flight_per_application, ours.throttle_rate, ours.breaker_failures),
        (library.max_in_flight_per_application, library.throttle_rate, library.breaker_failures)
    );
    assert_eq!((ours.breaker_rest, ours.breaker_max_rest), (library.breaker_rest, library.breaker_max_rest));
    assert_eq!((ours.idempotency_window, ours.retention()), (library.idempotency_window, library.retention()));
    assert_eq!(
        (ours.disable_after, ours.disable_after_failures, &ours.operational_application),
        (library.disable_after, library.disable_after_failures, &library.operational_application)
    );
    assert_eq!(ours.shutdown_grace + settings.api_grace, library.shutdown_grace);
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8071");
    assert!(settings.token.is_none() && settings.warnings.is_empty());
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let toml = "max_payload = 1_000\nmax_endpoints = 0x10\nlog = 'warn'\nallow_network = ['10.0.0.0/8']\n";
    let environment = [("RINGBACK_MAX_PAYLOAD", "2000"), ("RINGBACK_MAX_ENDPOINTS", "20"), ("RUST_LOG", "debug")];
    let settings = read(toml, &environment, &[(Key::MaxPayload, "3000")]).unwrap();
    assert_eq!((settings.config.max_payload, source(&settings, "max_payload")), (3_000, "--max-payload".to_owned()));
    assert_eq!(settings.config.max_endpoints, 20);
    assert_eq!(source(&settings, "max_endpoints"), "RINGBACK_MAX_ENDPOINTS");
    assert_eq!((settings.log.as_str(), source(&settings, "log")), ("debug", "RUST_LOG".to_owned()));
    assert_eq!(source(&settings, "allow_network"), "x.toml:4");
    assert_eq!(source(&settings, "listen"), "\"default\"");
    let both = read("", &[("RUST_LOG", "debug"), ("RINGBACK_LOG", "error")], &[]).unwrap();
    assert_eq!(both.log, "error");
}

#[test]
fn zero_seconds_disable_no_endpoint() {
    let after = |seconds| read("", &[("RINGBACK_DISABLE_AFTER_SECONDS", seconds)], &[]).unwrap().config.disable_after;
    assert_eq!((after("0"), after("60")), (None, Some(Duration::from_secs(60))));
}

#[test]
fn a_list_from_a_later_source_replaces_the_earlier_one() {
    let toml = "allow_network = ['10.0.0.0/8']";
    let environment = [("RINGBACK_ALLOW_NETWORK", "127.0.0.0/8, fd00::/8:8080,")];
    let networks = |settings: Settings| {
        settings.config.egress.allowed_networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(networks(read(toml, &environment, &[]).unwrap()), "127.0.0.0/8 fd00::/8:8080");
    let flags = Flags { config: None, given: vec![(Key::AllowNetwork, vec!["10.0.0.1".into(), "10.0.0.2".into()])] };
    let settings = Settings::from_sources(None, &environment.iter().copied().collect(), &flags).unwrap();
    assert_eq!(networks(settings), "10.0.0.1/32 10.0.0.2/32");
}

#[test]
fn every_complaint_about_the_file_has_its_line() {
    for (toml, expected) in [
        (
            "listen = '127.0.0.1:1'\n\nmax_paylod = 1",
            "x.toml:3: unknown setting `max_paylod`; did you mean `max_payload`?",
        ),
        ("nonsense_of_mine = 1", "x.toml:1: unknown setting `nonsense_of_mine`"),
        ("a = ", "x.toml:1: "),
        ("log = 'info'\nlog = 'warn'", "x.toml:2: duplicate key"),
        ("\nmax_payload = 'much'", "x.toml:2: max_payload: must be a whole number, not below 0"),
        ("max_payload = -1", "x.toml:1: max_payload: must be a whole number, not below 0"),
        ("max_payload = 16777217", "x.toml:1: max_payload: must be at most 16 MiB"),
        ("max_in_flight = 0", "x.toml:1: max_in_flight: must be at least 1"),
        ("throttle_rate = 0", "x.toml:1: throttle_rate: must be between 1 and 65,535 requests a second"),
        ("max_in_flight_per_application = 0", "x.toml:1: max_in_flight_per_application: must be at least 1"),
        ("breaker_rest_seconds = 0", "x.toml:1: breaker_rest_seconds: must be at least 1 millisecond"),
        ("breaker_max_rest_seconds = 86401", "x.toml:1: breaker_max_rest_seconds: must be between 0 and 86400"),
        (
            "breaker_rest_seconds = 10\nbreaker_max_rest_seconds = 9",
            "x.toml:2: breaker_max_rest_seconds: must not be shorter than the first rest",
        ),
        ("max_connections = 0", "x.toml:1: max_connections: must be between 1 and 100000"),
        ("disable_after_seconds = 31536001", "x.toml:1: disable_after_seconds: must be between 0 and 31536000"),
        ("disable_after_failures = 0", "x.toml:1: disable_after_failures: must be at least 1"),
        ("operational_application = 'a b'", "x.toml:1: operational_application: must have 1 to 256 characters"),
        ("operational_application = 'app_1'", "x.toml:1: operational_application: must not start with app_"),
        ("keep_payloads_days = 91", "x.toml:1: keep_payloads_days: must be more than 0, and not longer than"),
        ("keep_attempts_days = 0", "x.toml:1: keep_attempts_days: must be more than 0"),
        ("delete_on_success = true\nkeep_payloads_days = 1", "x.toml:1: delete_on_success: must not be set with"),
        ("keep_ended_days = 36501", "x.toml:1: keep_ended_days: must be between 0 and 36500"),
        ("listen = 'localhost:8071'", "x.toml:1: listen: must be an address and a port"),
        ("allow_network = '10.0.0.0/8'", "x.toml:1: allow_network: must be a list of texts"),
        ("allow_network = ['localhost']", "x.toml:1: allow_network: `localhost` is not a network, such as"),
        (
            "allow_network = ['10.0.0.1/8']",
            "x.toml:1: allow_network: `10.0.0.1/8` is not a network: it has bits behind its prefix; the network is 10.0.0.0/8",
        ),
        ("allow_metadata = 'yes'", "x.toml:1: allow_metadata: must be true or false"),
        ("nameserver = ['10.0.0.2:0']", "x.toml:1: nameserver: `10.0.0.2:0` is no address, such as 10.0.0.2"),
        ("nameserver = ['one.example']", "x.toml:1: nameserver: `one.example` is no address, such as 10.0.0.2"),
        ("proxy = 'https://u:hunter2@p.example'", "x.toml:1: proxy: must start with http://"),
        ("extra_roots = '/does/not/exist'", "x.toml:1: extra_roots: /does/not/exist cannot be read"),
        ("log = 'inof'", "x.toml:1: log: `inof` is no level; did you mean `info`?"),
        ("log = 'warn, dbug'", "x.toml:1: log: `dbug` is no level; did you mean `debug`?"),
        ("log = 'verbose'", "x.toml:1: log: `verbose` is no level: off, error, warn"),
        ("log = 'warn,hyper'", "x.toml:1: log: `hyper` is no level: off, error, warn"),
        ("log = 'ringback=inof'", "x.toml:1: log: must be a filter"),
        ("log = 'a=b=c'", "x.toml:1: log: must be a filter"),
        ("log_format = 'xml'", "x.toml:1: log_format: must be text or json"),
        ("public_url = 'ftp://x.example'", "x.toml:1: public_url: must be a URL"),
        ("public_url = 'https://u:p@x.example'", "x.toml:1: public_url: must be a URL"),
        ("token = 'short'", "x.toml:1: token: a token has 16 to 512 characters"),
        ("token = 'with a space, and long'", "x.toml:1: token: a token has letters, digits"),
        ("token = 'a-token-that-is-long'\ntoken_file = 'x'", "x.toml:2: token_file: the token is given twice"),
        ("token_file = '/does/not/exist'", "x.toml:1: token_file: /does/not/exist cannot be read"),
        ("application = 1", "x.toml:1: application must be written [[application]]"),
        ("[application]\nuid = 'a'", "x.toml:1: application must be written [[application]]"),
    ] {
        let complaint = complaint(toml);
        assert!(complaint.starts_with(expected), "{toml}\n{complaint}");
        assert!(!complaint.contains('\n'), "{complaint}");
    }
}

#[test]
fn a_filter_of_the_log_has_levels_and_targets_of_ours_bare_and_others_with_a_level() {
    for (given, filter) in [
        ("info", "info"),
        ("OFF", "OFF"),
        ("ringback", "ringback"),
        ("ringback::attempt", "ringback::attempt"),
        ("hyper::proto", "hyper::proto"),
        ("warn,hyper=debug", "warn,hyper=debug"),
        // A target that starts with a blank would match nothing.
        ("warn, ringback=debug ,", "warn,ringback=debug,"),
    ] {
        assert_eq!(read("", &[("RINGBACK_LOG", given)], &[]).unwrap().log, filter);
    }
    for variable in ["RINGBACK_LOG", "RUST_LOG"] {
        let complaint = read("", &[(variable, "wran")], &[]).unwrap_err().to_string();
        assert_eq!(complaint, format!("{variable}: `wran` is no level; did you mean `warn`?"));
    }
}

#[test]
fn complaints_about_the_environment_and_flags_name_them() {
    let environment = read("", &[("RINGBACK_MAX_PAYLOAD", "1MB")], &[]).unwrap_err();
    assert_eq!(environment.to_string(), "RINGBACK_MAX_PAYLOAD: must be a whole number, not below 0");
    let flag = read("", &[], &[(Key::Listen, "8071")]).unwrap_err().to_string();
    assert!(flag.starts_with("--listen: must be an address and a port"), "{flag}");
    // The library's own limits are the setting's, wherever it was given.
    let limit = read("", &[("RINGBACK_MAX_IN_FLIGHT_PER_ENDPOINT", "2000")], &[]).unwrap_err();
    assert_eq!(limit.to_string(), "RINGBACK_MAX_IN_FLIGHT_PER_ENDPOINT: must be at most 1,024");
}

#[test]
fn an_unknown_variable_of_ours_is_a_warning_and_an_empty_one_is_not_set() {
    let environment = [
        ("RINGBACK_LISTN", "x"),
        ("RINGBACK_SERVICE_HOST", "10.0.0.1"),
        ("RINGBACK_SERVER", "http://127.0.0.1:1"),
        ("RINGBACK_LISTEN", ""),
        ("OTHER", "x"),
    ];
    let settings = read("", &environment, &[]).unwrap();
    let [listen, host] = &settings.warnings[..] else { panic!("{:?}", settings.warnings) };
    assert!(listen.starts_with("RINGBACK_LISTN:") && listen.ends_with("did you mean RINGBACK_LISTEN?"), "{listen}");
    assert!(host.starts_with("RINGBACK_SERVICE_HOST:") && host.ends_with("is ignored"), "{host}");
    assert_eq!(source(&settings, "listen"), "\"default\"");
}

#[test]
fn a_token_of_a_later_source_replaces_the_file_of_an_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "from-the-token-file\n").unwrap();
    let toml = format!("token_file = '{}'", path.display());
    let token =
        |environment: &[(&str, &str)]| read(&toml, environment, &[]).unwrap().token.unwrap().expose().to_owned();
    assert_eq!(token(&[]), "from-the-token-file");
    assert_eq!(token(&[("RINGBACK_TOKEN", "from-the-environment")]), "from-the-environment");
}

#[test]
fn no_output_shows_a_secret() {
    let toml = "token = 'hunter2-hunter2-hunter2'\n[[application]]\nuid = 'a'\n[[application.endpoint]]\nuid = 'e'\n\
                url = 'https://acme.example/'\nprofile = 'levrage'\nsecret = 'hunter2-secret'\n\
                headers = { Authorization = 'Bearer hunter2' }\n";
    let settings = read(toml, &[], &[]).unwrap();
    let shown = format!("{} {} {settings:?}", settings.as_text(), settings.as_json());
    assert!(shown.contains("[redacted]"));
    // What the sources gave stands in `Settings`, too.
    assert!(!shown.contains("hunter2"), "{shown}");
}

const ACME: &str = r#"
[[application]]
uid = "acme"
metadata = { plan = "gold" }

[[application.endpoint]]
uid = "calls"
url = "https://api.acme.example/hooks"
profile = "house"
eventTypes = ["call.*"]
timeoutMs = 3000
retry = { delaysMs = [1000], alsoOn = [429] }
secret_env = "ACME_SECRET"
headers = { X-Plain = "a", X-Token = { env = "RINGBACK_ACME_TOKEN" } }
disabled = true

[[application]]
uid = "globex"
name = "Globex"

[[event_type]]
name = "call.ended"
description = "A call is over"

[[profile]]
name = "house"
signing = { secret = "required", content = "{body}", keys = [{ kind = "hmac-sha256" }], headers = [{ name = "X-Sig", value = "{sig}" }] }
"#;

#[test]
fn what_is_declared_is_read_whole() {
    let environment = [("ACME_SECRET", "a-secret"), ("RINGBACK_ACME_TOKEN", "t")];
    let settings = read(ACME, &environment, &[]).unwrap();
    assert_eq!(settings.warnings, Vec::<String>::new(), "a variable that the file names is known");
    let Declared { applications, event_types, profiles } = &settings.declared;
    let names: Vec<_> = applications.iter().map(|one| (one.uid.as_str(), one.new.name.as_str())).collect();
    assert_eq!(names, [("acme", "acme"), ("globex", "Globex")]);
    assert_eq!(applications[0].new.metadata["plan"], "gold");
    let endpoint = &applications[0].endpoints[0];
    assert_eq!(endpoint.secret.as_ref().unwrap().secret.expose(), "a-secret");
    assert_eq!((endpoint.disabled, endpoint.settings.timeout_ms), (Some(true), Some(3_000)));
    let headers: Vec<_> = endpoint.settings.headers.iter().map(|h| (h.name.as_str(), h.value.expose())).collect();
    assert_eq!(headers, [("X-Plain", "a"), ("X-Token", "t")]);
    assert_eq!(endpoint.settings.profile, ProfileChoice::from(profiles["house"].clone()));
    assert_eq!(endpoint.settings.resolve_profile().unwrap().timeout(), Duration::from_secs(3));
    assert_eq!(event_types[0].name, "call.ended");
    let declared = &settings.as_json()["declared"];
    assert_eq!(declared["applications"][0], json!({"uid": "acme", "endpoints": ["calls"]}));
}

#[test]
fn every_complaint_about_what_is_declared_has_its_line() {
    let endpoint = |lines: &str| format!("[[application]]\nuid = 'a'\n[[application.endpoint]]\nuid = 'e'\n{lines}");
    let url = |lines: &str| endpoint(&format!("url = 'https://acme.example/'\n{lines}"));
    for (toml, expected) in [
        ("[[application]]\nname = 'a'".into(), "x.toml:1: uid: is required"),
        ("[[application]]\nuid = 'app_1'".into(), "x.toml:2: uid: must not start with app_"),
        ("[[application]]\nuid = 'a'\nnmae = 'b'".into(), "x.toml:3: unknown member `nmae`; did you mean `name`?"),
        (
            "[[application]]\nuid = 'a'\n[[application]]\nuid = 'a'".into(),
            "x.toml:4: uid: the application a is declared twice",
        ),
        (endpoint(""), "x.toml:3: missing field `url`"),
        (endpoint("url = 'http://acme.example/'"), "x.toml:5: url: must start with https"),
        (
            endpoint("url = 'https://127.0.0.1/'"),
            "x.toml:5: url: names an address that must not be called; the operator can allow its network with \
             `allowed_networks` (`--allow-network 10.0.0.0/8`)",
        ),
        (url("timeoutMS = 1"), "x.toml:6: unknown member `timeoutMS`; did you mean `timeoutMs`?"),
        (url("secrte = 'x'"), "x.toml:6: unknown member `secrte`; did you mean `secret`?"),
        (url("\ntimeoutMs = 0"), "x.toml:7: timeoutMs: must be between 1 and 300,000"),
        (url("retry = { delayMs = [1] }"), "x.toml:6: unknown field `delayMs`"),
        (url("[application.endpoint.retry]\njitter = 2"), "x.toml:7: retry.jitter: must be between 0 and 1"),
        (url("profile = 'hooli'"), "x.toml:6: profile: unknown profile `hooli`"),
        (url("secret = 'not-a-whsec'"), "x.toml:6: secret: must start with whsec_"),
        (url("secret = 'whsec_x'\nsecret_env = 'X'"), "x.toml:7: secret_env: the secret is given twice"),
        (url("secret_env = 'NOT_SET'"), "x.toml:6: secret_env: the variable NOT_SET is not set"),
        (url("secret_file = '/does/not/exist'"), "x.toml:6: secret_file: /does/not/exist cannot be read"),
        (url("headers = { Host = 'x' }"), "x.toml:6: headers: `Host` is reserved"),
        (
            url("[application.endpoint.headers]\nX-A = { env = 'NOT_SET' }"),
            "x.toml:7: headers.X-A: the variable NOT_SET",
        ),
        (url("headers = { X-A = 1 }"), "x.toml:6: headers.X-A: must be a text, { env"),
        (url("disabled = 'no'"), "x.toml:6: disabled: must be true or false"),
        (
            url("[[application.endpoint]]\nuid = 'e'\nurl = 'https://acme.example/'"),
            "x.toml:7: uid: the application declares",
        ),
        ("[[event_type]]\nname = 'a b'".into(), "x.toml:2: name: "),
        (
            "[[event_type]]\nname = 'a'\n[[event_type]]\nname = 'a'".into(),
            "x.toml:4: name: the event type a is declared twice",
        ),
        ("[[profile]]\nname = 'svix'".into(), "x.toml:2: name: svix is built in"),
        ("[[profile]]\nname = 'a'\ntimeoutMs = 0".into(), "x.toml:3: timeoutMs: must be between"),
        (
            "[[profile]]\nname = 'a'\nretyOn = 'anyFailure'".into(),
            "x.toml:3: unknown member `retyOn`; did you mean `retryOn`?",
        ),
    ] {
        let complaint = complaint(&toml);
        assert!(complaint.starts_with(expected), "{toml}\n{complaint}");
        assert!(!complaint.contains('\n'), "{complaint}");
    }
}

#[test]
fn a_secret_that_cannot_be_taken_is_named_by_where_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "not-a-whsec\n").unwrap();
    let start = "[[application]]\nuid = 'a'\n[[application.endpoint]]\nuid = 'e'\nurl = 'https://acme.example/'\n";
    let read = |line: &str| read(&format!("{start}\n{line}"), &[("ACME", "not-a-whsec")], &[]).unwrap_err().to_string();
    let expected = "x.toml:7: secret_env (ACME): must start with whsec_";
    assert!(read("secret_env = 'ACME'").starts_with(expected), "{}", read("secret_env = 'ACME'"));
    let of_a_file = read(&format!("secret_file = '{}'", file.display()));
    let expected = format!("x.toml:7: secret_file ({}): must start with whsec_", file.display());
    assert!(of_a_file.starts_with(&expected), "{of_a_file}");
    assert!(!of_a_file.contains("not-a-whsec"), "{of_a_file}");
}

#[test]
fn declared_headers_are_shown_only_where_the_file_says_so() {
    let start = "[[application]]\nuid = 'a'\n[[application.endpoint]]\nuid = 'e'\nurl = 'https://acme.example/'\n";
    let with = |headers: &str| read(&format!("{start}headers = {{ {headers} }}"), &[("ACME", "canary")], &[]);
    let shown = |headers: &str| -> Option<String> {
        let settings = with(headers).unwrap();
        settings.declared.applications[0].endpoints[0].settings.headers[0].shown().map(str::to_owned)
    };
    assert_eq!(shown("X-Region = { value = 'eu', sensitive = false }").as_deref(), Some("eu"));
    for hidden in ["X-Region = 'eu'", "X-A = { env = 'ACME' }", "X-Token = { value = 'canary', sensitive = false }"] {
        assert_eq!(shown(hidden), None, "{hidden}");
    }
    for wrong in
        ["X-A = { value = 'v' }", "X-A = { value = 'v', sensitive = true }", "X-A = { value = 1, sensitive = false }"]
    {
        let problem = with(wrong).unwrap_err().to_string();
        assert!(problem.contains("headers.X-A: must be a text"), "{problem}");
    }
}

#[test]
fn the_example_file_is_read_and_says_the_defaults() {
    let example = include_str!("../../docs/ringback.example.toml");
    let secrets = [("ACME_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), ("ACME_API_KEY", "key")];
    let settings = read(example, &secrets, &[]).unwrap();
    assert!(!settings.declared.applications.is_empty() && !settings.declared.profiles.is_empty());
    let kept = settings.declared.applications[0].new.retention;
    let half_days = |days: u64| std::time::Duration::from_secs(days * 43_200);
    assert_eq!((kept.keep_delivered, kept.keep_payloads), (Some(half_days(28)), Some(half_days(5))));
    // Each setting stands in it, behind a `#` or not, with the default where there is one.
    for key in Key::ALL {
        let line = example
            .lines()
            .map(|line| line.trim_start_matches(['#', ' ']))
            .find(|line| line.strip_prefix(key.name()).is_some_and(|rest| rest.starts_with(" = ")));
        let line = line.unwrap_or_else(|| panic!("{} does not stand in the example", key.name()));
        if let Some(default) = key.entry().default {
            let value = line.split(" = ").nth(1).unwrap().trim_matches('"').replace('_', "");
            assert_eq!(value, default.replace('_', ""), "{line}");
        }
    }
}

#[test]
fn the_manual_lists_every_setting_with_its_default_and_shows_the_files_it_names() {
    let manual = include_str!("../../docs/sidecar.md");
    for key in Key::ALL {
        let default = key.entry().default.map_or("none".to_owned(), |default| format!("`{default}`"));
        let row = format!("| `{}` | {default} | ", key.name());
        assert!(manual.contains(&row), "{row}");
    }
    for file in [include_str!("../../docs/deploy/ringback.service"), include_str!("../../docs/deploy/Dockerfile")] {
        assert!(manual.contains(file));
    }
}
