//! End-to-end tests: they drive `sluicegate::run` with real sockets, in `tests/`.
