//! What two configurations decide otherwise, to be shown: as JSON, and as lines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sluicegate_model::escape;

use super::effect::Kind;
use super::tally::{Group, Tally};

/// How many groups are shown.
const MOST_SHOWN: usize = 200;

/// What two configurations decide otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// The number of requests and connections that were compared.
    pub(crate) requests: u64,
    /// Those of which something else becomes.
    pub(crate) changed: Count,
    /// The same by the respects in which decisions differ. A request may be in several.
    pub(crate) kinds: Vec<OfKind>,
    /// Requests that are decided otherwise in the same way.
    pub(crate) groups: Vec<Row>,
    /// Differences that are in none of the groups that are shown.
    pub(crate) beyond: u64,
    /// What is to be known of the figures.
    pub(crate) notes: Vec<String>,
}

/// A number of requests, and its share of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Count {
    pub(crate) requests: u64,
    /// In percent.
    pub(crate) percent: f64,
}

/// How many requests differ in one respect.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OfKind {
    pub(crate) kind: Kind,
    #[serde(flatten)]
    pub(crate) count: Count,
}

/// A group.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) listener: String,
    pub(crate) kinds: Vec<Kind>,
    #[serde(flatten)]
    pub(crate) count: Count,
    pub(crate) old: Side,
    pub(crate) new: Side,
    /// What is said otherwise of the rule, the services or the listener.
    pub(crate) differences: Vec<Difference>,
    pub(crate) examples: Vec<String>,
}

/// What one configuration decides.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Side {
    /// The rule; empty: none.
    pub(crate) by: String,
    pub(crate) decision: String,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.decision)?;
        if self.by.is_empty() { Ok(()) } else { write!(f, " ({})", self.by) }
    }
}

/// A setting that is another one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Difference {
    pub(crate) kind: Kind,
    pub(crate) old: String,
    pub(crate) new: String,
}

impl Report {
    pub(crate) fn new(tally: &Tally, notes: Vec<String>) -> Self {
        let count = |requests: u64| Count { requests, percent: 100.0 * requests as f64 / tally.requests.max(1) as f64 };
        let row = |group: &Group| {
            let side = |of: &super::effect::Effect| Side { by: of.by.clone(), decision: of.does.clone() };
            let all = group.old.differences(&group.new).into_iter().chain(group.place.differences.iter().cloned());
            Row {
                listener: group.place.listener.clone(),
                kinds: group.kinds.iter().collect(),
                count: count(group.requests),
                old: side(&group.old),
                new: side(&group.new),
                differences: all.map(|(kind, old, new)| Difference { kind, old, new }).collect(),
                examples: group.examples.iter().map(|(_, example)| example.clone()).collect(),
            }
        };
        let groups = tally.groups();
        let beyond = tally.beyond + groups.iter().skip(MOST_SHOWN).map(|group| group.requests).sum::<u64>();
        Self {
            requests: tally.requests,
            changed: count(tally.changed),
            kinds: Kind::ALL.map(|kind| OfKind { kind, count: count(tally.of(kind)) }).into(),
            groups: groups.into_iter().take(MOST_SHOWN).map(row).collect(),
            beyond,
            notes,
        }
    }

    /// Lines for people. All that comes from outside is made fit to be shown.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines =
            vec![format!("of {} requests {} ({:.3} %) are decided otherwise", self.requests, self.changed.requests, self.changed.percent)];
        for OfKind { kind, count } in self.kinds.iter().filter(|of| of.count.requests > 0) {
            lines.push(format!("  {:<9} {:>10}  {:.3} %", kind.name(), count.requests, count.percent));
        }
        for row in &self.groups {
            let kinds: Vec<&str> = row.kinds.iter().map(|kind| kind.name()).collect();
            lines.push(String::new());
            lines.push(format!(
                "{} requests ({:.3} %), {}: {}",
                row.count.requests,
                row.count.percent,
                kinds.join(", "),
                escape::line(&row.listener)
            ));
            lines.push(format!("  - {}", escape::line(&row.old.to_string())));
            lines.push(format!("  + {}", escape::line(&row.new.to_string())));
            for Difference { kind, old, new } in &row.differences {
                lines.push(format!("    {}: {} -> {}", kind.name(), escape::line(old), escape::line(new)));
            }
            lines.extend(row.examples.iter().map(|example| format!("    such as {}", escape::line(example))));
        }
        if self.beyond > 0 {
            lines.push(format!("\n{} more requests differ in other ways", self.beyond));
        }
        lines.extend(self.notes.iter().map(|note| format!("\nnote: {}", escape::line(note))));
        lines
    }
}

/// From which number of differences on a comparison has failed: `changed>0.1%`, `refused>0`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FailOn {
    /// What is counted; none: all of which something else becomes.
    of: Option<Kind>,
    or_equal: bool,
    most: f64,
    percent: bool,
}

impl FromStr for FailOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?}: {why}; such as changed>0.1% or refused>0 is wanted");
        let (name, rest) = text.split_once('>').ok_or_else(|| wrong("it has no `>`"))?;
        let (or_equal, rest) = rest.strip_prefix('=').map_or((false, rest), |rest| (true, rest));
        let (number, percent) = rest.trim().strip_suffix('%').map_or((rest.trim(), false), |number| (number.trim(), true));
        let of = match name.trim() {
            "changed" => None,
            name => Some(Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
                let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                wrong(&format!("{name:?} is neither changed nor one of {}", names.join(", ")))
            })?),
        };
        let most = number.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        let most = most.ok_or_else(|| wrong(&format!("{number:?} is no number")))?;
        if percent && most > 100.0 { Err(wrong("it is more than all")) } else { Ok(Self { of, or_equal, most, percent }) }
    }
}

impl fmt::Display for FailOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, sign, unit) =
            (self.of.map_or("changed", Kind::name), if self.or_equal { ">=" } else { ">" }, if self.percent { "%" } else { "" });
        write!(f, "{name}{sign}{}{unit}", self.most)
    }
}

impl FailOn {
    /// The number in question, if it is too large.
    pub(crate) fn failed(&self, report: &Report) -> Option<Count> {
        let count = match self.of {
            None => report.changed,
            Some(of) => report.kinds.iter().find(|one| one.kind == of).map(|one| one.count).unwrap_or_default(),
        };
        let value = if self.percent { count.percent } else { count.requests as f64 };
        (value > self.most || (self.or_equal && value >= self.most)).then_some(count)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn report(requests: u64, changed: u64, refused: u64) -> Report {
        let mut tally = Tally::default();
        (tally.requests, tally.changed, tally.kinds[Kind::Refused as usize]) = (requests, changed, refused);
        Report::new(&tally, Vec::new())
    }

    #[test]
    fn a_comparison_fails_by_number_or_share() {
        let failed = |text: &str, report: &Report| text.parse::<FailOn>().unwrap().failed(report).is_some();
        let some = report(10_000, 10, 1);
        assert!(failed("changed>0.09%", &some) && !failed("changed>0.1%", &some) && failed("changed>=0.1%", &some));
        assert!(failed("refused > 0", &some) && !failed("refused>1", &some) && !failed("spread>0", &some));
        assert!(!failed("changed>0", &report(0, 0, 0)), "nothing was compared");
        assert_eq!("changed>=0.5%".parse::<FailOn>().unwrap().to_string(), "changed>=0.5%");
    }

    #[test]
    fn what_is_wrong_with_a_condition_is_told_with_what_is_wanted() {
        for (text, why) in [
            ("changed", "it has no `>`"),
            ("chnaged>0", "\"chnaged\" is neither changed nor one of route, service"),
            ("refused>many", "\"many\" is no number"),
            ("refused>-1", "\"-1\" is no number"),
            ("refused>101%", "it is more than all"),
        ] {
            let error = text.parse::<FailOn>().unwrap_err();
            assert!(error.contains(why) && error.ends_with("such as changed>0.1% or refused>0 is wanted"), "{error}");
        }
    }
}
