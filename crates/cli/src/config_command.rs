//! `spotalis config`: shows the configuration, the default one or the one that holds, and its schema.

use spotalis_config::{Config, Sources, json_schema};

use crate::args::{ConfigCommand, ConfigOutput};
use crate::exit::Exit;
use crate::table;

/// Shows what was asked for.
pub fn run(command: &ConfigCommand, sources: &Sources) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Print { defaults, effective: _, output } => {
            let config = if *defaults { Config::defaults() } else { Config::load(sources)? };
            table::to_stdout(|out| match output {
                ConfigOutput::Yaml => out.write_all(config.to_yaml().as_bytes()),
                ConfigOutput::Json => table::json(&config.to_json(), out),
            })?;
        }
        ConfigCommand::Schema => table::to_stdout(|out| table::json(&json_schema(), out))?,
    }
    Ok(Exit::Fine)
}
