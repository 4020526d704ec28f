//! Configuration in all its layers: file, environment, flags; validated once.
