//! The list of rules that a router is configured with may be megabytes long, and one rule changes at a time. Such a list is cut out of its document and read
//! rule by rule: a rule whose text was there before is not parsed again, and the tree of the document has an empty list in its place. This is done for
//! documents that can be read quickly ([JSON](super::quick), [block style](super::block)); in others the list is read with the rest.

use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;
use sluicegate_model::config_text::{ConfigText, RuleText};

use super::{Lines, Position, block, quick, split};

/// Where the list stands in an object.
const WAY: [&str; 4] = ["spec", "router", "config", "rules"];
/// The same, as a JSON pointer.
const POINTER: &str = "/spec/router/config/rules";
/// The kinds that have a router's configuration there.
const KINDS: [&str; 2] = ["ClientTrafficPolicy", "HTTPRouteFilter"];
/// A shorter document is read as a whole.
const LARGE: usize = 16 << 10;
/// A shorter list is read with the rest.
const LONG: usize = 64;
/// Stands for the list in a text. What is read quickly has no such character.
const MARK: &str = "\u{1}";

/// The rules of a document.
#[derive(Debug)]
pub struct Rules {
    lines: Arc<Lines>,
    /// Where each of them stands in the file's text.
    at: Box<[Range<u32>]>,
    config: ConfigText,
}

/// A list that is to be cut out.
struct Cut {
    /// What stands between its brackets, or its lines.
    list: Range<usize>,
    elements: Vec<Range<usize>>,
    /// Reads an element.
    read: fn(&str) -> Option<Value>,
}

impl Rules {
    /// The configuration of the router.
    pub fn config(&self) -> &ConfigText {
        &self.config
    }

    /// The text of a tree in which an empty list stands in the place of these rules.
    pub(crate) fn joined_with(&self, tree: &Value) -> String {
        let mut marked = tree.clone();
        if let Some(list) = marked.pointer_mut(POINTER) {
            *list = MARK.into();
        }
        let text = serde_json::to_string(&marked).unwrap_or_default();
        let mark = serde_json::to_string(MARK).unwrap_or_default();
        let Some((before, after)) = text.split_once(&mark) else { return text };
        let rules: Vec<&str> = self.texts().iter().map(|rule| &**rule).collect();
        [before, "[", &rules.join(","), "]", after].concat()
    }

    fn texts(&self) -> &[RuleText] {
        self.config.rules().unwrap_or_default()
    }

    fn text(&self, rule: usize) -> Option<&str> {
        let at = self.at.get(rule)?;
        self.lines.text.get(at.start as usize..at.end as usize)
    }
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

impl Eq for Rules {}

/// Reads a part of a file that has such a list: its value without the rules, where it begins, and the rules. `begin`: where the part begins in the file's text;
/// `before`: the rules that the file had before.
pub(super) fn read(
    part: &split::Part<'_>,
    begin: usize,
    lines: &Arc<Lines>,
    before: &[Arc<Rules>],
) -> Option<(Value, Position, Arc<Rules>)> {
    let text = part.text;
    if text.len() < LARGE || !KINDS.iter().any(|kind| text.contains(kind)) {
        return None;
    }
    let cut = json(text).or_else(|| block_style(text)).filter(|cut| cut.elements.len() >= LONG)?;
    let rest = [text.get(..cut.list.start)?, text.get(cut.list.end..)?].concat();
    let rest = split::Part { text: &rest, first_line: part.first_line };
    let (mut value, start) = quick::read(&rest).or_else(|| block::read(&rest))?;
    let is_ours = value.get("apiVersion")? == "sluicegate.dev/v1alpha1" && KINDS.iter().any(|kind| value["kind"] == *kind);
    let list = value.pointer_mut(POINTER).filter(|list| is_ours && (list.is_null() || list.as_array().is_some_and(Vec::is_empty)))?;
    *list = Value::Array(Vec::new());
    let rules = texts(text, &cut, before)?;
    let mut config = value.pointer("/spec/router/config")?.clone();
    config.as_object_mut()?.remove("rules");
    let head = config.to_string();
    let at = |element: &Range<usize>| Some(u32::try_from(begin + element.start).ok()?..u32::try_from(begin + element.end).ok()?);
    let at = cut.elements.iter().map(at).collect::<Option<_>>()?;
    let config = ConfigText::of_rules(head.strip_suffix('}')?, rules);
    Some((value, start, Arc::new(Rules { lines: lines.clone(), at, config })))
}

/// The rules. Those that stand at the beginning and at the end as they did before are taken from there.
fn texts(text: &str, cut: &Cut, before: &[Arc<Rules>]) -> Option<Vec<RuleText>> {
    let element = |number: usize| cut.elements.get(number).and_then(|at| text.get(at.clone()));
    let count = cut.elements.len();
    let alike = |known: &Rules| {
        let begin = (0..count).take_while(|i| known.text(*i).is_some_and(|rule| element(*i) == Some(rule))).count();
        let all = known.at.len();
        let end = (1..=count.min(all) - begin.min(all)).take_while(|i| known.text(all - i) == element(count - i)).count();
        (begin, end)
    };
    let best = before.iter().map(|known| (Some(known), alike(known))).max_by_key(|(_, (begin, end))| begin + end);
    let (known, (begin, end)) = best.unwrap_or_default();
    let known = known.map(|known| known.texts()).unwrap_or_default();
    let mut rules = Vec::with_capacity(count);
    rules.extend_from_slice(known.get(..begin)?);
    for number in begin..count - end {
        rules.push(RuleText::from(&*(cut.read)(element(number)?)?.to_string()));
    }
    rules.extend_from_slice(known.get(known.len() - end..)?);
    Some(rules)
}

/// Finds the list in a document that is JSON. What is no JSON may be taken for a list too; the rest is then refused when it is read.
fn json(text: &str) -> Option<Cut> {
    let begin = text.strip_prefix("---").unwrap_or(text).trim_start_matches([' ', '\n']);
    if !begin.starts_with('{') {
        return None;
    }
    let mut scan = Scan { bytes: text.as_bytes(), at: text.len() - begin.len() };
    for (level, wanted) in WAY.iter().enumerate() {
        scan.field(wanted)?;
        scan.blank();
        let opens = if level + 1 < WAY.len() { b'{' } else { b'[' };
        if scan.now()? != opens {
            return None;
        }
    }
    scan.at += 1;
    let start = scan.at;
    let mut elements = Vec::new();
    loop {
        scan.blank();
        if scan.now()? == b']' && elements.is_empty() {
            break;
        }
        let begin = scan.at;
        scan.skip()?;
        elements.push(begin..scan.at);
        scan.blank();
        match scan.now()? {
            b',' => scan.at += 1,
            b']' => break,
            _ => return None,
        }
    }
    Some(Cut { list: start..scan.at, elements, read: quick::element })
}

/// A walk over JSON that looks at as little as it can.
struct Scan<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl Scan<'_> {
    fn now(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while self.now().is_some_and(|byte| matches!(byte, b' ' | b'\n' | b'\t')) {
            self.at += 1;
        }
    }

    /// Goes to the value of a field of the object that begins here.
    fn field(&mut self, wanted: &str) -> Option<()> {
        loop {
            // The brace, or the comma behind a field.
            self.at += 1;
            self.blank();
            let begin = self.at + 1;
            self.text()?;
            let found = self.bytes.get(begin..self.at - 1)? == wanted.as_bytes();
            self.blank();
            if self.now()? != b':' {
                return None;
            }
            self.at += 1;
            if found {
                return Some(());
            }
            self.blank();
            self.skip()?;
            self.blank();
            if self.now()? != b',' {
                return None;
            }
        }
    }

    /// Goes behind a text.
    fn text(&mut self) -> Option<()> {
        if self.now()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            match self.now()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        Some(())
    }

    /// Goes behind a value.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.now()? {
                b'"' => self.text()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b' ' | b'\n' | b'\t' if depth == 0 => return None,
                b',' | b':' | b' ' | b'\n' | b'\t' => self.at += 1,
                _ => {
                    while self.now().is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')) {
                        self.at += 1;
                    }
                    if depth > 0 && !matches!(self.now()?, b',' | b'}' | b']' | b' ' | b'\n' | b'\t') {
                        return None;
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

/// Finds the list in a document in block style.
fn block_style(text: &str) -> Option<Cut> {
    // For each step of the way how far it is indented, and how far what stands below it.
    let mut steps: Vec<(usize, Option<usize>)> = vec![(0, Some(0))];
    let mut lines = Said { text, at: 0 };
    let (start, above) = loop {
        let (_, indent, line) = lines.next()?;
        if line.starts_with("---") {
            continue;
        }
        while steps.len() > 1 && steps.last().is_some_and(|(above, _)| indent <= *above) {
            steps.pop();
        }
        let wanted = WAY.get(steps.len() - 1)?;
        let (_, below) = steps.last_mut()?;
        if *below.get_or_insert(indent) == indent && line.strip_suffix(':') == Some(wanted) {
            steps.push((indent, None));
            if steps.len() > WAY.len() {
                break (lines.at, indent);
            }
        }
    };
    let mut starts: Vec<usize> = Vec::new();
    let mut items = None;
    let end = loop {
        let Some((begin, indent, line)) = lines.next() else { break text.len() };
        let item = line.starts_with("- ");
        let level = *items.get_or_insert(indent);
        if level < above || (starts.is_empty() && !item) {
            return None;
        }
        if indent < level || (indent == level && !item) {
            break begin;
        }
        if indent == level {
            starts.push(begin);
        }
    };
    let ends = starts.iter().skip(1).copied().chain([end]);
    let elements = starts.iter().copied().zip(ends).map(|(begin, end)| begin..end).collect();
    Some(Cut { list: start..end, elements, read: block::item })
}

/// Lines that are neither blank nor comments.
struct Said<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Iterator for Said<'t> {
    /// Where it begins, how far it is indented, and the rest.
    type Item = (usize, usize, &'t str);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let begin = self.at;
            let rest = self.text.get(begin..).filter(|rest| !rest.is_empty())?;
            let line = rest.split_once('\n').map_or(rest, |(line, _)| line);
            self.at = (begin + line.len() + 1).min(self.text.len());
            let said = line.trim_start_matches(' ');
            let indent = line.len() - said.len();
            let said = said.trim_end_matches(' ');
            if !said.is_empty() && !said.starts_with('#') {
                return Some((begin, indent, said));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};
    use serde_json::json;

    use super::*;
    use crate::manifest::parse_after;
    use crate::object::{Body, Object, decode};

    fn rule(number: usize) -> Value {
        json!({"name": format!("r{number}"), "matches": [{"path": {"type": "PathPrefix", "value": format!("/{number}/")}}], "backendRefs": [{"name": "a", "port": 80}]})
    }

    fn policy(numbers: &[usize]) -> Value {
        json!({
            "apiVersion": "sluicegate.dev/v1alpha1", "kind": "ClientTrafficPolicy", "metadata": {"name": "edge"},
            "spec": {
                "router": {"config": {"rules": numbers.iter().copied().map(rule).collect::<Vec<_>>(), "zone": "z"}, "plugin": "rules"},
                "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}],
            },
        })
    }

    /// The same in block style.
    fn in_block_style(numbers: &[usize]) -> String {
        let mut text = "# The edge.\napiVersion: sluicegate.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata:\n  name: edge\nspec:\n  router:\n    config:\n      rules:\n".to_owned();
        for number in numbers {
            _ = write!(
                text,
                "      # {number}\n      - name: r{number}\n        matches:\n        - path:\n            type: PathPrefix\n            value: /{number}/\n        backendRefs:\n        - name: a\n          port: 80\n"
            );
        }
        text + "      zone: z\n    plugin: rules\n  targetRefs:\n  - group: gateway.networking.k8s.io\n    kind: Gateway\n    name: edge\n"
    }

    fn read(text: &str, before: &[Arc<Rules>]) -> (Object, Option<Arc<Rules>>) {
        let mut parsed = parse_after(Path::new("p.yaml"), text, before);
        assert!(parsed.faults.is_empty() && parsed.documents.len() == 1, "{:?}", parsed.faults);
        let document = parsed.documents.remove(0);
        let rules = document.rules.clone();
        let (object, faults) = decode(document);
        assert!(faults.is_empty(), "{faults:?}");
        (object.expect("an object"), rules)
    }

    fn config(object: &Object) -> ConfigText {
        let Body::ClientTrafficPolicy(policy) = &object.body else { panic!("{:?}", object.key) };
        policy.spec.router.as_ref().expect("a router").config.clone()
    }

    #[test]
    fn rules_are_the_same_apart_and_among_the_rest_and_those_that_stay_are_shared() {
        let mut random = StdRng::seed_from_u64(1);
        let forms: [fn(&[usize]) -> String; 3] =
            [|numbers| policy(numbers).to_string(), |numbers| format!("---\n{:#}\n", policy(numbers)), in_block_style];
        for form in forms {
            let mut numbers: Vec<usize> = (0..300).collect();
            let mut before: Option<Arc<Rules>> = None;
            for round in 0..20 {
                let (object, rules) = read(&form(&numbers), before.as_slice());
                let rules = rules.unwrap_or_else(|| panic!("round {round}: it is read apart"));
                let whole = policy(&numbers);
                assert!(config(&object) == ConfigText::from(whole["spec"]["router"]["config"].clone()), "round {round}");
                assert_eq!(serde_json::from_str::<Value>(&object.json()).expect("JSON"), whole, "round {round}");
                assert!(object.value == read(&policy(&numbers).to_string(), &[]).0.value && *object.value.tree() == whole);
                let compact = object.compact();
                assert_eq!((&*compact.value.json(), &*compact.value.tree()), (&*whole.to_string(), &whole));
                if let Some(before) = &before {
                    let shared = |rule: &RuleText| before.texts().iter().any(|known| std::ptr::eq(known.as_ptr(), rule.as_ptr()));
                    let new = rules.texts().iter().filter(|rule| !shared(rule)).count();
                    assert!(new <= 3, "round {round}: {new} were read");
                }
                before = Some(rules);
                let at = random.random_range(0..numbers.len());
                match random.random_range(0..4) {
                    0 => numbers[at] = 1000 + round,
                    1 => numbers.insert(at, 1000 + round),
                    2 => drop(numbers.remove(at)),
                    _ => numbers.swap(at.saturating_sub(1), at),
                }
            }
        }
    }

    #[test]
    fn a_rule_is_found_in_the_text() {
        let numbers: Vec<usize> = (0..300).collect();
        let (object, _) = read(&in_block_style(&numbers), &[]);
        let place = object.origin.place("spec.router.config.rules[7].matches[0].path.value");
        assert_eq!(place.text.trim(), "value: /7/");
    }

    #[test]
    fn what_cannot_be_read_apart_is_read_with_the_rest() {
        let numbers: Vec<usize> = (0..300).collect();
        let (json, block) = (policy(&numbers).to_string(), in_block_style(&numbers));
        for text in [
            policy(&numbers[..LONG - 1]).to_string(),
            json.replace("\"/7/\"", "\"/é/\""),
            json.replace("ClientTrafficPolicy", "OtherTrafficPolicy"),
            json.replace("\"config\"", "\"setup\""),
            json.replace("\"name\":\"r7\"}", "\"name\":\"r7\",\"name\":\"r8\"}"),
            block.replace("value: /7/", "value: \"/\\u0037/\""),
            block.replace("    config:\n", "    config: &c\n"),
            block.replace("  router:\n    config:\n", "  router: {}\n  other:\n    config:\n"),
        ] {
            let parsed = parse_after(Path::new("p.yaml"), &text, &[]);
            assert_eq!((parsed.documents.len(), parsed.faults.len()), (1, 0), "{:?}", parsed.faults);
            assert!(parsed.documents[0].rules.is_none());
        }
        let twice = parse_after(Path::new("p.yaml"), &json.replace("\"name\":\"r7\"}", "\"name\":\"r7\",\"name\":\"r8\"}"), &[]);
        assert_eq!(twice.documents[0].readings.len(), 1, "a key that is set twice is told");
    }
}
