//! From the configuration to how the log is written.

use spotalis_config::{Config, LogFormat, LogLevel};
use spotalis_runtime::telemetry;

/// The form of the log's lines.
pub fn format(config: &Config) -> telemetry::Format {
    match config.settings.logging.format {
        LogFormat::Json => telemetry::Format::Json,
        LogFormat::Console => telemetry::Format::Console,
    }
}

/// The least important line of the log.
pub fn level(config: &Config) -> &'static str {
    match config.settings.logging.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}
