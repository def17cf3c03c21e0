//! `ringback demo` holds what it claims.
#![cfg(feature = "sidecar")]

use std::process::{Command, Output};

use serde_json::Value;

fn ringback(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringback")).args(arguments).output().expect("the program was built for this test")
}

#[test]
fn the_demo_holds_and_its_report_says_what() {
    let output = ringback(&["demo", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report:#}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(report["ok"], true);
    assert!(report["seconds"].as_f64().unwrap() < 60.0);

    // Killed once with work to do, and started again once.
    let kills = report["kills"].as_array().unwrap();
    assert_eq!((kills.len(), report["restarts"].as_u64()), (1, Some(1)));
    assert_eq!(kills[0]["bySignal"], true);
    assert!(kills[0]["open"].as_u64().unwrap() > 0);

    // A dead letter was replayed.
    let replayed = report["replayed"].as_array().unwrap();
    assert!(replayed.contains(&Value::from("subverse/call.placed/document")), "{replayed:?}");

    // Every event of each vendor is delivered and verified.
    let events = report["events"].as_array().unwrap();
    for (vendor, count) in [("levers", 2), ("levrage", 2), ("subverse", 13)] {
        let of_vendor: Vec<&Value> = events.iter().filter(|event| event["vendor"] == vendor).collect();
        assert_eq!(of_vendor.len(), count, "{vendor}");
        assert!(of_vendor.iter().any(|event| event["typed"] == true));
        for event in of_vendor {
            assert_eq!((&event["result"], &event["verified"]), (&"delivered".into(), &true.into()), "{event:#}");
        }
    }
    for check in report["checks"].as_array().unwrap() {
        assert_eq!(check["holds"], true, "{check:#}");
    }
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_program_says_what_it_is_and_can_do() {
    let version = ringback(&["--version"]);
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), concat!("ringback ", env!("CARGO_PKG_VERSION")));
    let help = String::from_utf8(ringback(&["--help"]).stdout).unwrap();
    assert!(help.contains("demo") && !help.contains("demo-sender"), "{help}");
    assert!(!ringback(&["nonsense"]).status.success());
}
