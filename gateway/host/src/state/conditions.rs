//! Conditions of endpoints, as each version of the contract has them.

use sluicegate_model::health::Condition;

use crate::bindings::balancer::sluicegate::plugin::statistics as current;
use crate::bindings::v0_1::balancer::sluicegate::plugin::statistics as v0_1;

macro_rules! conditions {
    ($($of_version:ty),*) => {
        $(impl From<Condition> for $of_version {
            fn from(condition: Condition) -> Self {
                match condition {
                    Condition::Healthy => Self::Healthy,
                    Condition::Warming => Self::Warming,
                    Condition::Pending => Self::Pending,
                    Condition::Ejected => Self::Ejected,
                    Condition::Unhealthy => Self::Unhealthy,
                }
            }
        })*
    };
}

conditions!(current::Condition, v0_1::Condition);
