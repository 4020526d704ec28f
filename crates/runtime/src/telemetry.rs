//! Sets logging up: one line per event on stderr, as JSON or for a person, at a level that can be changed while running.
//!
//! Names and messages from the cluster end up in logs, so no control character reaches the terminal or the collector: a
//! line of the log is exactly one line, and nothing in it moves a cursor. That is also why there are no colours.

use std::io::{self, Write};
use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::text::printable;

/// Libraries that say at `info` and `debug` what only their authors want to know.
const QUIET: &[&str] = &["h2", "hyper", "hyper_util", "kube_client", "kube_runtime", "rustls", "tower"];

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// An object per line.
    #[default]
    Json,
    /// Time, level, place, message, fields.
    Console,
}

/// Logging cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is no level.
    #[error("{0:?} is no log level; use off, error, warn, info, debug or trace")]
    Level(String),
    /// Something else has set logging up before.
    #[error("logging is set up already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
    /// The subscriber is gone, as at the end of a test.
    #[error("the log level cannot be changed")]
    Gone(#[source] reload::Error),
}

/// Changes the level while running.
#[derive(Clone, Debug)]
pub struct Telemetry {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Telemetry {
    /// Logs to stderr from now on, for the whole process.
    pub fn install(format: Format, level: &str) -> Result<Self, TelemetryError> {
        let filter = filter(level)?;
        match format {
            Format::Json => Self::installed(json(filter, io::stderr)),
            Format::Console => Self::installed(console(filter, io::stderr)),
        }
    }

    fn installed((subscriber, telemetry): (impl SubscriberInitExt, Self)) -> Result<Self, TelemetryError> {
        subscriber.try_init().map_err(TelemetryError::Twice)?;
        Ok(telemetry)
    }

    /// Changes the level.
    pub fn set_level(&self, level: &str) -> Result<(), TelemetryError> {
        let filter = filter(level)?;
        self.filter.reload(filter).map_err(TelemetryError::Gone)
    }
}

/// The level for us, and no more than warnings from libraries unless everything is asked for.
fn filter(level: &str) -> Result<EnvFilter, TelemetryError> {
    let level = LevelFilter::from_str(level.trim()).map_err(|_| TelemetryError::Level(level.to_owned()))?;
    let quiet = QUIET.iter().filter(|_| level < LevelFilter::TRACE && level > LevelFilter::WARN);
    let directives = quiet.fold(level.to_string(), |directives, name| format!("{directives},{name}=warn"));
    Ok(EnvFilter::builder().parse(directives).expect("levels and module names make valid directives"))
}

fn json<W>(filter: EnvFilter, writer: W) -> (impl Subscriber + Send + Sync, Telemetry)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(OneLine(writer));
    (tracing_subscriber::registry().with(filter).with(lines), Telemetry { filter: handle })
}

fn console<W>(filter: EnvFilter, writer: W) -> (impl Subscriber + Send + Sync, Telemetry)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(OneLine(writer));
    (tracing_subscriber::registry().with(filter).with(lines), Telemetry { filter: handle })
}

/// Spells control characters out. The formatter hands over one whole event at a time.
struct OneLine<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for OneLine<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        self.0.write_all(printable(line).as_bytes())?;
        self.0.write_all(b"\n")?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock())).unwrap()
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    const HOSTILE: &str = "web\u{1b}[2J\nlevel=ERROR forged\u{85}";

    #[test]
    fn json_is_one_object_per_line_whatever_is_in_it() {
        let lines = Lines::default();
        let (subscriber, _telemetry) = json(filter("info").unwrap(), lines.clone());
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("reconcile", workload = HOSTILE).entered();
            tracing::info!(pod = HOSTILE, "{HOSTILE}");
        });
        let text = lines.take();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().contains(char::is_control), "{text:?}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["pod"], &value["message"]), (&HOSTILE.into(), &HOSTILE.into()));
        assert_eq!(value["span"]["workload"], HOSTILE);
        assert_eq!(value["level"], "INFO");
    }

    #[test]
    fn the_console_is_one_line_per_event_whatever_is_in_it() {
        let lines = Lines::default();
        let (subscriber, _telemetry) = console(filter("info").unwrap(), lines.clone());
        tracing::subscriber::with_default(subscriber, || tracing::warn!(pod = %HOSTILE, "{HOSTILE}"));
        let text = lines.take();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().contains(char::is_control), "{text:?}");
        assert!(text.contains("WARN"), "{text}");
    }

    #[test]
    fn the_level_changes_while_running() {
        let lines = Lines::default();
        let (subscriber, telemetry) = console(filter("info").unwrap(), lines.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("hidden");
            assert_eq!(lines.take(), "");
            telemetry.set_level("debug").unwrap();
            tracing::debug!("shown");
            assert!(lines.take().contains("shown"));
            tracing::debug!(target: "kube_client::client", "library");
            assert_eq!(lines.take(), "");
            telemetry.set_level("error").unwrap();
            tracing::warn!("hidden");
            assert_eq!(lines.take(), "");
        });
        assert_eq!(
            telemetry.set_level("loud").unwrap_err().to_string(),
            "\"loud\" is no log level; use off, error, warn, info, debug or trace"
        );
    }
}
