//! A library that discovery plugins share. It reads Prometheus' lists of target groups, `{"targets": ["host:port"], "labels": {…}}`
//! (<https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config>), and time spans in a configuration.

mod groups;
mod interval;

pub use groups::{Reading, endpoints};
pub use interval::Interval;
