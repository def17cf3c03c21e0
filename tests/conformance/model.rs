//! Random commands, given to a store and to the memory store, its model: they answer alike, always.
//!
//! A failing run is printed as the shortest list of commands that still fails. `PROPTEST_CASES` says how many
//! lists are tried.

#[path = "model/command.rs"]
mod command;
#[path = "model/pair.rs"]
mod pair;

use proptest::collection::vec;
use proptest::test_runner::{Config, TestError, TestRunner};

use self::pair::Pair;
use crate::subject::Subject;

/// How many lists of commands are tried, if nobody says.
const CASES: u32 = 64;

/// How many commands a list has, at most.
const COMMANDS: usize = 60;

/// Runs random commands on a new store and on the model.
pub(crate) fn compare(subject: impl Fn() -> Box<dyn Subject>) {
    let asked_for = std::env::var_os("PROPTEST_CASES").is_some();
    // What is missing for good is waited for in each try: the search for a shorter list must end all the same.
    let mut config = Config { failure_persistence: None, max_shrink_time: 30_000, ..Config::default() };
    if !asked_for {
        config.cases = CASES;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = TestRunner::new(config).run(&vec(command::commands(), 20..=COMMANDS), |commands| {
        runtime.block_on(async {
            let mut pair = Pair::new(subject()).await;
            for command in &commands {
                pair.run(command).await?;
                pair.compare().await?;
            }
            Ok(())
        })
    });
    match run {
        Ok(()) => {}
        Err(TestError::Abort(why)) => panic!("{why}"),
        Err(TestError::Fail(why, commands)) => panic!("{why}\nafter {commands:#?}"),
    }
}
