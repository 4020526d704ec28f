//! tmp
#![allow(dead_code)]
pub(crate) mod decode;
pub(crate) mod field;
pub(crate) mod schema;
pub(crate) mod status;
