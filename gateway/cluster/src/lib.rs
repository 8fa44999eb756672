//! A Kubernetes API server: as a source of objects, and what is written to it.
