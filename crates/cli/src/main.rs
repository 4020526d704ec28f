//! The binary: arguments, environment, printing and exit codes live here and nowhere else.

fn main() {}
