//! The one way in which tests and tools call cargo, so that nothing is built twice.

use std::process::Command;

/// What `cargo run` and `cargo test` tell the program they start about its package.
const ABOUT_THIS_PACKAGE: [&str; 3] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];

/// The cargo that started this program, or the one on the path.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_this_package(&mut command);
    command
}

/// Keeps from a command what cargo said about this package to this program.
///
/// ring's build script is run again when one of those variables differs from the last time, and everything above ring is
/// compiled again with it: each time somebody goes from plain cargo to a program that cargo started, and back.
pub fn forget_this_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| ABOUT_THIS_PACKAGE.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
}
