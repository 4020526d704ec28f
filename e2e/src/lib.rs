//! The tests that only a real API server can answer, and the benchmarks that need one.
