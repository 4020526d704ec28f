//! Requests to the API and their answers.
//!
//! A request goes its way as in a real API server: parsed, decoded into the form of its kind, defaulted, admitted,
//! prepared, validated, stored. Each step is a file here, and each refusal is worded where it is decided.

mod admission;
mod apply;
mod binding;
mod body;
mod create;
pub(crate) mod decode;
mod defaults;
mod delete;
pub(crate) mod discovery;
mod eviction;
mod field;
mod fields;
mod fieldset;
mod jsonpatch;
mod labels;
mod list;
mod meta;
pub(crate) mod names;
mod options;
mod ownership;
mod patch;
pub(crate) mod perform;
mod plugins;
mod qos;
mod quantity;
mod query;
mod quota;
pub(crate) mod reply;
mod request;
mod scale;
mod schema;
pub(crate) mod service;
mod status;
mod strategic;
mod strategy;
mod table;
mod typed;
mod update;
mod validation;
mod watch;
