//! The shell every engine runs in: clock, work queue, leadership, admin server, Events, telemetry, shutdown.
