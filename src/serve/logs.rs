//! The server's log, on the standard error: text, or one JSON object a line.

use tracing_subscriber::EnvFilter;

use crate::cli::colours;
use crate::settings::{LogFormat, Settings};

/// Starts to log. The filter was checked with the settings.
pub(super) fn start(settings: &Settings) {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(&settings.log))
        .with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => lines.with_ansi(colours(&std::io::stderr())).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}
