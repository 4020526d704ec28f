//! What Spotalis reads from and writes to Kubernetes: names, slim watch types, the index, fenced writes.
