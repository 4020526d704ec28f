//! The one door for everything that is not plain cargo.

fn main() {}
